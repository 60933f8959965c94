//! One compilation: its sources, what it reports, how its stages are called. Every stage is named here once.

use std::path::{Path, PathBuf};

use crate::base::diagnostic::{Diagnostic, Severity};
use crate::base::dtype::Dtype;
use crate::base::render;
use crate::base::span::{SourceId, SourceMap};
use crate::codegen::abi::Interface;
use crate::derive::{self, Derived};
use crate::driver::arguments::{self, Float, Source};
use crate::driver::code::Code;
use crate::driver::failure::Failure;
use crate::driver::interface::interface;
use crate::driver::progress::Progress;
use crate::kernel;
use crate::kernel::lower::Hardware;
use crate::package::device::DeviceTarget;
use crate::rewrite;
use crate::sema::{self, hir};
use crate::syntax::{self, ast};
use crate::tensor;
use crate::tensor::graph::Graph;

/// The largest source that is read, in bytes.
const LARGEST_SOURCE: u64 = 4 << 20;

/// A program being compiled.
#[derive(Debug)]
pub struct Session {
    pub sources: SourceMap,
    pub main: SourceId,
    pub path: PathBuf,
    pub code: Code,
    /// The GPUs that a library has code for, beside the CPU.
    pub device: Option<DeviceTarget>,
    options: Source,
}

/// A model after the tensor stage.
#[derive(Debug)]
pub struct Algebra {
    pub derived: Derived,
    /// After rewriting; it means what `derived.graph` means.
    pub graph: Graph,
    pub report: rewrite::Report,
}

impl Session {
    /// Reads the program. Fails where the file cannot be read as text.
    pub fn open(options: &Source) -> Result<Session, Failure> {
        let text = read_text(&options.file)?;
        let mut sources = SourceMap::default();
        let main = sources.add(options.file.display().to_string(), text);
        let code = Code::default();
        Ok(Session { sources, main, path: options.file.clone(), code, device: None, options: options.clone() })
    }

    /// The same, with machine code made as the options say. Fails where this build or this machine cannot.
    pub fn with_code(self, options: &arguments::Code) -> Result<Session, Failure> {
        Ok(Session { code: Code::new(options)?, ..self })
    }

    /// The same, for machine code that runs here.
    pub fn with_code_that_runs(self, options: &arguments::Code) -> Result<Session, Failure> {
        Ok(Session { code: Code::that_runs(options)?, ..self })
    }

    /// The number type of all real tensors.
    pub fn dtype(&self) -> Dtype {
        match self.options.dtype {
            Float::F32 => Dtype::F32,
            Float::F64 => Dtype::F64,
        }
    }

    /// The name of what is built: the stem of the file.
    pub fn stem(&self) -> String {
        self.path.file_stem().map_or_else(|| "model".to_string(), |s| s.to_string_lossy().into_owned())
    }

    /// What a model's library is called: a file's only model after the file, others after themselves; as an identifier of C.
    pub fn library_name(&self, program: &hir::Program, model: &hir::Model) -> String {
        let name = if program.models.len() == 1 { self.stem() } else { model.name.clone() };
        let safe: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
        if safe.starts_with(|c: char| c.is_ascii_digit()) { format!("_{safe}") } else { safe }
    }

    /// text → ast.
    pub fn parse(&self) -> Result<ast::Program, Failure> {
        let (program, diagnostics) = syntax::parse(&self.sources, self.main);
        self.report(&diagnostics)?;
        Ok(program)
    }

    /// ast → hir, with the compile-time parameters set from outside.
    pub fn check(&mut self) -> Result<hir::Program, Failure> {
        let program = self.parse()?;
        let overrides = self.options.set.iter().map(|text| setting(text)).collect::<Result<Vec<_>, _>>()?;
        let folder = self.path.parent().map(Path::to_owned).unwrap_or_default();
        let (checked, diagnostics) = sema::check(&program, &mut self.sources, &Files { folder }, &overrides);
        self.report(&diagnostics)?;
        checked.ok_or_else(|| Failure::bug("sema gave neither a program nor an error"))
    }

    /// The models asked for, in the order of the file. Fails where `--model` names none.
    pub fn models<'p>(&self, program: &'p hir::Program) -> Result<Vec<&'p hir::Model>, Failure> {
        self.chosen(program.models.iter().collect())
    }

    /// The models and, each as a model of its own, the layers that no model reaches.
    pub fn models_and_layers<'p>(&self, program: &'p hir::Program) -> Result<Vec<&'p hir::Model>, Failure> {
        self.chosen(program.models.iter().chain(&program.layers).collect())
    }

    fn chosen<'p>(&self, all: Vec<&'p hir::Model>) -> Result<Vec<&'p hir::Model>, Failure> {
        let Some(name) = &self.options.model else { return Ok(all) };
        let names: Vec<&str> = all.iter().map(|m| m.name.as_str()).collect();
        let wrong = || Failure::call(format!("no model `{name}`; the file has: {}", names.join(", ")));
        let found: Vec<&hir::Model> = all.iter().copied().filter(|m| m.name == *name).collect();
        if found.is_empty() { Err(wrong()) } else { Ok(found) }
    }

    /// The one model to run: the one named, or the only one.
    pub fn model<'p>(&self, program: &'p hir::Program) -> Result<&'p hir::Model, Failure> {
        let models = self.models(program)?;
        match models[..] {
            [model] => Ok(model),
            [] => Err(Failure::call(format!("{} has no model, only layers", self.path.display()))),
            _ => {
                let names: Vec<&str> = models.iter().map(|m| m.name.as_str()).collect();
                Err(Failure::call(format!("which model? choose one with --model: {}", names.join(", "))))
            }
        }
    }

    /// hir → tensor.
    pub fn derive(&self, program: &hir::Program, model: &hir::Model) -> Result<Derived, Failure> {
        let progress = Progress::of(format!("deriving {}", model.name));
        let derived = match derive::derive(program, model) {
            Ok(derived) => derived,
            Err(diagnostics) => {
                self.report(&diagnostics)?;
                return Err(Failure::bug("derive failed without an error"));
            }
        };
        drop(progress);
        verified("derive", tensor::verify::verify(&derived.graph))?;
        Ok(derived)
    }

    /// tensor → tensor.
    pub fn rewrite(&self, derived: Derived) -> Result<Algebra, Failure> {
        let _progress = Progress::of(format!("rewriting {}", derived.blueprint.model));
        let (graph, report) = self.optimise(&derived.graph)?;
        Ok(Algebra { derived, graph, report })
    }

    /// The cheaper equal program, and what was done.
    pub fn optimise(&self, graph: &Graph) -> Result<(Graph, rewrite::Report), Failure> {
        let (graph, report) = rewrite::optimise(graph, &rewrite::Options::default());
        verified("rewrite", tensor::verify::verify(&graph))?;
        Ok((graph, report))
    }

    /// All stages up to the algebra.
    pub fn algebra(&self, program: &hir::Program, model: &hir::Model) -> Result<Algebra, Failure> {
        self.rewrite(self.derive(program, model)?)
    }

    /// tensor → kernel, for the hardware that a library is made for.
    pub fn lower(&self, graph: &Graph, name: &str, dtype: Dtype) -> Result<kernel::ir::Program, Failure> {
        let hardware = if self.device.is_some() { Hardware::Gpu } else { Hardware::Cpu };
        self.lower_for(graph, name, dtype, hardware)
    }

    /// tensor → kernel, for some hardware.
    pub fn lower_for(
        &self,
        graph: &Graph,
        name: &str,
        dtype: Dtype,
        hardware: Hardware,
    ) -> Result<kernel::ir::Program, Failure> {
        let _progress = Progress::of(format!("lowering {name}"));
        let program = kernel::lower::lower_for(graph, name, dtype, hardware);
        verified("lower", kernel::verify::verify(&program))?;
        Ok(program)
    }

    /// The interface of the library to be.
    pub fn interface(&self, graph: &Graph, name: &str, dtype: Dtype) -> Interface {
        let facts = vec![("source".to_string(), fingerprint(self.sources.text(self.main)))];
        interface(graph, name, dtype, facts)
    }

    /// Prints diagnostics; fails where one of them is an error.
    fn report(&self, diagnostics: &[Diagnostic]) -> Result<(), Failure> {
        for diagnostic in diagnostics {
            if self.options.json {
                eprintln!("{}", render::to_json(diagnostic, &self.sources));
            } else {
                eprint!("{}", render::render(std::slice::from_ref(diagnostic), &self.sources));
            }
        }
        if diagnostics.iter().any(|d| d.severity == Severity::Error) { Err(Failure::reported()) } else { Ok(()) }
    }
}

/// The modules that a program may `use` by path: files beside it.
struct Files {
    folder: PathBuf,
}

impl sema::Modules for Files {
    fn load(&self, path: &str) -> Option<String> {
        read_text(&self.folder.join(path)).ok()
    }
}

fn read_text(path: &Path) -> Result<String, Failure> {
    let size = std::fs::metadata(path).map_err(|e| Failure::io("read", path, &e))?.len();
    if size > LARGEST_SOURCE {
        return Err(Failure::call(format!(
            "{} has {size} bytes; a program has at most {LARGEST_SOURCE}",
            path.display()
        )));
    }
    let bytes = std::fs::read(path).map_err(|e| Failure::io("read", path, &e))?;
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Failure::program(format!("{} is not a text: byte {at} is not UTF-8", path.display()))
    })
}

fn setting(text: &str) -> Result<(String, sema::Rational), Failure> {
    let wrong = || Failure::call(format!("--set {text}: expected NAME=NUMBER, such as --set c=32"));
    let (name, value) = text.split_once('=').ok_or_else(wrong)?;
    let value = sema::Rational::parse(value.trim()).ok_or_else(wrong)?;
    Ok((name.trim().to_string(), value))
}

fn verified(stage: &str, result: Result<(), String>) -> Result<(), Failure> {
    result.map_err(|why| Failure::bug(format!("stage `{stage}` produced an ill-formed program: {why}")))
}

/// FNV-1a of the source, in hexadecimal: enough to tell two sources apart, not a signature.
fn fingerprint(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}
