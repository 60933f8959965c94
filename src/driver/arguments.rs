//! What a user types: commands and options, with their help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// A compiler for Geometric Deep Learning: a domain, a symmetry and signals in; fused native equivariant kernels out.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = FIRST_STEPS)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

const FIRST_STEPS: &str = "\
First steps:
  gdlc new shapes                                       a project that runs at once
  gdlc derive shapes/model.gdl                          what was derived
  gdlc run shapes/model.gdl --input shapes/images.safetensors --init 1

Exit status: 0 success, 1 the program is wrong, 2 the call is wrong, 3 the compiler is wrong.";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Parse, resolve, type and derive; nothing is written
    Check(Source),
    /// The blueprint: a row a layer with orbits, stabiliser, dim Hom, weights, lowering, FLOPs, bytes; the kernels they become
    Derive(Derive),
    /// Compile to lib<stem>.so, <stem>.h and <stem>.json
    Build(Build),
    /// Compile, load and run on real data
    Run(Run),
    /// The certificate: equivariance, counts of weights, compiled against reference; exit 1 if any check fails
    Verify(Verify),
    /// Time, GFLOP/s and GB/s of a call and of each kernel, beside the measured ceiling of this machine
    Bench(Bench),
    /// Print a stage of the compilation, from the syntax tree to the instructions
    Emit(Emit),
    /// The rewriting as a derivation, a line a law, with the cost before and after
    Explain(Explain),
    /// Format a program in place, or only check that it is formatted
    Fmt(Fmt),
    /// A starter project: a folder with a model, data to run it on and what to type
    New(New),
}

impl Command {
    /// Whether a program reads what is printed.
    pub fn json(&self) -> bool {
        match self {
            Command::Check(source) => source.json,
            Command::Derive(options) => options.source.json,
            Command::Verify(options) => options.source.json,
            Command::Build(options) => options.source.json,
            Command::Run(options) => options.source.json,
            Command::Bench(options) => options.source.json,
            Command::Emit(options) => options.source.json,
            Command::Explain(options) => options.source.json,
            Command::Fmt(options) => options.json,
            Command::New(options) => options.json,
        }
    }
}

/// A program and how to read it.
#[derive(Clone, Debug, Args)]
pub struct Source {
    /// The .gdl file
    pub file: PathBuf,
    /// Set a compile-time parameter of the models: --set c=32
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// Only this model
    #[arg(long)]
    pub model: Option<String>,
    /// The number type of all real tensors
    #[arg(long, value_enum, default_value_t = Float::F32)]
    pub dtype: Float,
    /// Print JSON, an object a line, for programs; errors too
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Float {
    F32,
    F64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BackendName {
    Cranelift,
    Llvm,
}

/// How machine code is made.
#[derive(Clone, Debug, Args)]
pub struct Code {
    /// What makes the machine code
    #[arg(long, value_enum, default_value_t = BackendName::Cranelift)]
    pub backend: BackendName,
    /// The processors it is for: any (x86-64 with AVX2 and FMA, wider vectors where it finds them), or some of native, x86-64-v2, x86-64-v3
    /// and x86-64-v4, with commas between: the best that the processor has is chosen at run time; or aarch64
    #[arg(long, value_name = "NAMES", default_value = "any")]
    pub cpu: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Target {
    Cpu,
    Cuda,
}

/// The number types of products on GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Products {
    /// As the tensors are: f32, or f64
    Plain,
    Tf32,
    Bf16,
    F16,
}

/// How GPUs multiply.
#[derive(Clone, Debug, Args)]
pub struct OnGpu {
    /// The type that GPUs round the factors of dense products to (linear layers, convolutions), for their tensor cores, sm_80 and later;
    /// sums stay f32. plain: no rounding
    #[arg(long, value_enum, default_value_t = Products::Plain)]
    pub products: Products,
}

#[derive(Debug, Args)]
pub struct Derive {
    #[command(flatten)]
    pub source: Source,
    #[command(flatten)]
    pub on_gpu: OnGpu,
}

/// The highest order of derivatives: a library has 2^(order + 1) - 1 models.
const MOST_ORDER: usize = 4;

/// An order of derivatives.
fn order(text: &str) -> Result<usize, String> {
    let most = format!(
        "the order of the derivatives is a number up to {MOST_ORDER}: a library of order N has 2^(N+1) - 1 models"
    );
    text.parse().ok().filter(|n| *n <= MOST_ORDER).ok_or(most)
}

#[derive(Debug, Args)]
pub struct Build {
    #[command(flatten)]
    pub source: Source,
    /// The folder to write to; made if missing
    #[arg(short, long, default_value = "out")]
    pub output: PathBuf,
    #[command(flatten)]
    pub code: Code,
    /// What the library has code for; cuda: GPUs, and the CPU too
    #[arg(long, value_enum, default_value_t = Target::Cpu)]
    pub target: Target,
    /// The GPUs that machine code is made for, where ptxas is found: sm_80,sm_90; others assemble the PTX when they load it
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub arch: Vec<String>,
    #[command(flatten)]
    pub on_gpu: OnGpu,
    /// How many derivatives to emit
    #[arg(long, default_value_t = 0, value_parser = order)]
    pub grad: usize,
    /// Bindings to write beside the library
    #[arg(long, value_delimiter = ',')]
    pub bind: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Verify {
    #[command(flatten)]
    pub source: Source,
    #[command(flatten)]
    pub code: Code,
    /// Check the library's derivatives up to this order too
    #[arg(long, default_value_t = 0, value_parser = order)]
    pub grad: usize,
}

#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    pub source: Source,
    #[command(flatten)]
    pub code: Code,
    /// A safetensors file: tensors named by the model's arguments (`x`) and by what its domains bring (`Graph.senders`);
    /// accuracy is printed where it has `labels`
    #[arg(long)]
    pub input: PathBuf,
    /// The weights, a safetensors file
    #[arg(long, conflicts_with = "init", required_unless_present = "init")]
    pub weights: Option<PathBuf>,
    /// Fresh weights from the derived initialisers, from this seed
    #[arg(long)]
    pub init: Option<u64>,
    /// Where to write the outputs, a safetensors file
    #[arg(short, long)]
    pub output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Bench {
    #[command(flatten)]
    pub source: Source,
    #[command(flatten)]
    pub code: Code,
    /// Time this backend too, call by call in turn, and print the ratio
    #[arg(long, value_enum)]
    pub vs: Option<BackendName>,
    /// Sizes of this run: n=64,batch=8; the sizes' hints where not given
    #[arg(long, value_delimiter = ',', value_name = "NAME=VALUE")]
    pub size: Vec<String>,
    /// How many calls are timed
    #[arg(long, default_value_t = 20)]
    pub calls: usize,
    /// Time the library's derivatives up to this order too
    #[arg(long, default_value_t = 0, value_parser = order)]
    pub grad: usize,
}

#[derive(Debug, Args)]
pub struct Emit {
    /// What is printed
    #[arg(value_enum)]
    pub stage: Stage,
    #[command(flatten)]
    pub source: Source,
    #[command(flatten)]
    pub code: Code,
    /// The GPU that PTX is for: sm_80; it runs on later ones too
    #[arg(long, value_name = "NAME")]
    pub arch: Option<String>,
    #[command(flatten)]
    pub on_gpu: OnGpu,
    /// Print the derivatives up to this order too
    #[arg(long, default_value_t = 0, value_parser = order)]
    pub grad: usize,
}

/// What can be printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    /// The syntax tree
    Ast,
    /// The derived layers
    Blueprint,
    /// The algebra as derived
    Tensor,
    /// The algebra after rewriting
    Rewritten,
    /// Loops and buffers
    Kernel,
    /// The IR of Cranelift
    Clif,
    /// The IR of LLVM
    Llvm,
    /// The instructions that Cranelift makes
    Asm,
    /// The code for CUDA
    Ptx,
}

#[derive(Debug, Args)]
pub struct Explain {
    #[command(flatten)]
    pub source: Source,
    /// Check the proof again, and evaluate both ends
    #[arg(long)]
    pub check: bool,
}

#[derive(Debug, Args)]
pub struct Fmt {
    /// The files to format
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Write nothing; exit 1 if a file would change
    #[arg(long)]
    pub check: bool,
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct New {
    /// The name of the folder and of the model
    pub name: PathBuf,
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
}
