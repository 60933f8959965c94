//! The text of a module, as LLVM writes it, as kernels of instructions (PTX ISA, chapters 4, 5 and 7). What is not known here is an error that
//! names it: nothing is passed over.

use std::collections::BTreeMap;

use crate::operation::{Operation, operation};
use crate::tensor_core::{Factors, Product};

/// A register of a thread; constants have one each.
pub type Register = u32;

/// Memory that an instruction names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    Global,
    /// Through the cache that does not see what the kernel writes (`ld.global.nc`).
    ReadOnly,
    Shared,
    Local,
    Parameter,
}

#[derive(Debug)]
pub enum Instruction {
    Compute {
        operation: Operation,
        to: Register,
        from: [Register; 3],
    },
    Load {
        space: Space,
        bytes: u8,
        signed: bool,
        to: Vec<Register>,
        at: Register,
        offset: i64,
    },
    Store {
        space: Space,
        bytes: u8,
        from: Vec<Register>,
        at: Register,
        offset: i64,
    },
    Branch(usize),
    /// All threads of the block wait for each other.
    Barrier,
    /// A product by the threads of a warp together.
    Multiply(Product),
    Return,
    Trap,
}

/// An instruction, and the predicate that it needs, or needs not to hold.
#[derive(Debug)]
pub struct Guarded {
    pub guard: Option<(Register, bool)>,
    pub instruction: Instruction,
    /// The line of the text.
    pub line: usize,
}

/// What a register holds when a thread starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Start {
    Number(u64),
    /// The address of a constant of the module.
    Constant(usize),
    Thread,
    Threads,
    Block,
    Blocks,
}

#[derive(Debug, Default)]
pub struct Kernel {
    pub name: String,
    pub body: Vec<Guarded>,
    pub registers: usize,
    /// The registers that hold something at first; the others hold nonsense.
    pub starts: Vec<(Register, Start)>,
    /// Where each parameter begins and its bytes, and the bytes of all.
    pub parameters: Vec<(usize, usize)>,
    pub parameter_bytes: usize,
    pub shared_bytes: usize,
    pub local_bytes: usize,
    /// The threads of a block that it was compiled for.
    pub threads: Option<u32>,
}

#[derive(Debug, Default)]
pub struct Module {
    pub kernels: Vec<Kernel>,
    /// The names of its arrays in global memory, and their bytes.
    pub constants: Vec<(String, Vec<u8>)>,
}

impl Module {
    /// The module that a text describes.
    ///
    /// # Errors
    /// What is not known here, and its line.
    pub fn parse(text: &str) -> Result<Module, String> {
        let mut reader = Reader::default();
        for (line, code) in text.lines().enumerate() {
            reader.line = line + 1;
            reader
                .take(code.split("//").next().unwrap_or_default().trim())
                .map_err(|why| format!("line {}: {why}", line + 1))?;
        }
        Ok(reader.module)
    }
}

/// A module as far as it was read.
#[derive(Default)]
struct Reader {
    line: usize,
    module: Module,
    constants: BTreeMap<String, usize>,
    /// The kernel that is being read, and a statement that is not at its end.
    kernel: Option<Body>,
    statement: String,
}

/// The names of a kernel.
#[derive(Default)]
struct Body {
    kernel: Kernel,
    inside: bool,
    registers: BTreeMap<String, Register>,
    starts: BTreeMap<Start, Register>,
    /// Those of the module before it.
    constants: BTreeMap<String, usize>,
    /// Shared and local arrays and parameters: their offset.
    places: BTreeMap<String, usize>,
    labels: BTreeMap<String, usize>,
    /// Branches to labels, by instruction.
    branches: Vec<(usize, String)>,
}

/// An array's declaration, `.shared .align 16 .b8 name[size]`.
struct Array {
    align: usize,
    name: String,
    /// The bytes of an element and of all.
    each: usize,
    bytes: usize,
}

fn array(words: &str) -> Result<Array, String> {
    let wrong = || format!("an array that is not known here: `{words}`");
    let tokens: Vec<&str> = words.split_whitespace().collect();
    let align = tokens.iter().position(|t| *t == ".align").and_then(|k| tokens.get(k + 1)).and_then(|n| n.parse().ok());
    let (name, size) = tokens.last().and_then(|t| t.split_once('[')).ok_or_else(wrong)?;
    let each = tokens.get(tokens.len() - 2).and_then(|t| width(t.trim_start_matches('.'))).ok_or_else(wrong)?;
    let each = usize::from(each);
    let size: usize = size.trim_end_matches(']').parse().map_err(|_| wrong())?;
    Ok(Array { align: align.ok_or_else(wrong)?, name: name.to_string(), each, bytes: size * each })
}

/// The bytes of a type, `f32`.
fn width(name: &str) -> Option<u8> {
    match name.trim_start_matches(['b', 'u', 's', 'f']) {
        "8" => Some(1),
        "16" => Some(2),
        "32" => Some(4),
        "64" => Some(8),
        _ => None,
    }
}

impl Reader {
    fn take(&mut self, code: &str) -> Result<(), String> {
        let Some(body) = &mut self.kernel else { return self.outside(code) };
        match (code, body.inside) {
            ("", _) | ("(" | ")", false) => Ok(()),
            ("{", false) => {
                body.inside = true;
                Ok(())
            }
            (_, false) => body.head(code),
            ("}", true) => self.end(),
            (label, true) if label.ends_with(':') => {
                body.labels.insert(label.trim_end_matches(':').to_string(), body.kernel.body.len());
                Ok(())
            }
            (part, true) => {
                self.statement.push_str(part);
                self.statement.push(' ');
                if !part.ends_with(';') {
                    return Ok(());
                }
                let statement = std::mem::take(&mut self.statement);
                let line = self.line;
                statement.split(';').map(str::trim).filter(|s| !s.is_empty()).try_for_each(|s| body.statement(s, line))
            }
        }
    }

    fn outside(&mut self, code: &str) -> Result<(), String> {
        if let Some(name) = code.strip_prefix(".visible .entry ") {
            let mut body = Body { constants: std::mem::take(&mut self.constants), ..Body::default() };
            body.kernel.name = name.trim_end_matches(['(', ')']).to_string();
            self.kernel = Some(body);
            return Ok(());
        }
        if let Some(rest) = code.trim_start_matches(".visible ").strip_prefix(".global ") {
            let (declared, values) = rest.split_once('=').unwrap_or((rest, ""));
            let Array { name, each, bytes, .. } = array(declared.trim_matches([';', ' ']))?;
            let values =
                values.trim().trim_matches(['{', '}', ';']).split(',').map(str::trim).filter(|v| !v.is_empty());
            let values = values.map(number).collect::<Option<Vec<u64>>>().ok_or("a value that is not a number")?;
            let mut data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()[..each].to_vec()).collect();
            // what is left out is zero
            data.resize(bytes, 0);
            self.constants.insert(name.clone(), self.module.constants.len());
            self.module.constants.push((name, data));
            return Ok(());
        }
        match code.split_whitespace().next() {
            None | Some(".version" | ".target" | ".address_size") => Ok(()),
            Some(other) => Err(format!("`{other}` outside of a kernel is not known here")),
        }
    }

    fn end(&mut self) -> Result<(), String> {
        let mut body = self.kernel.take().expect("a kernel is read");
        for (at, label) in body.branches {
            let to = *body.labels.get(&label).ok_or_else(|| format!("no label `{label}`"))?;
            body.kernel.body[at].instruction = Instruction::Branch(to);
        }
        self.constants = body.constants;
        body.kernel.registers = body.registers.len() + body.starts.len();
        body.kernel.starts = body.starts.into_iter().map(|(start, register)| (register, start)).collect();
        self.module.kernels.push(body.kernel);
        Ok(())
    }
}

/// A literal: an integer, `0f` with the bits of an f32, `0d` with those of an f64.
fn number(text: &str) -> Option<u64> {
    if let Some(bits) = text.strip_prefix("0f").or(text.strip_prefix("0d")).or(text.strip_prefix("0x")) {
        return u64::from_str_radix(bits, 16).ok();
    }
    text.parse::<i64>().map(|n| n as u64).or(text.parse::<u64>()).ok()
}

impl Body {
    /// A line between a kernel's name and its body.
    fn head(&mut self, code: &str) -> Result<(), String> {
        let tokens: Vec<&str> = code.split_whitespace().collect();
        match tokens[0] {
            ".param" => {
                let bytes =
                    tokens.get(1).and_then(|t| width(t.trim_start_matches('.'))).ok_or("a parameter without a type")?;
                let bytes = usize::from(bytes);
                let at = self.kernel.parameter_bytes.next_multiple_of(bytes);
                self.places.insert(tokens.last().expect("a name").trim_end_matches([',', ')']).to_string(), at);
                self.kernel.parameters.push((at, bytes));
                self.kernel.parameter_bytes = at + bytes;
            }
            ".reqntid" | ".maxntid" => {
                self.kernel.threads = tokens.get(1).and_then(|n| n.trim_end_matches(',').parse().ok())
            }
            ".maxnreg" | ".minnctapersm" => {}
            other => return Err(format!("`{other}` of a kernel is not known here")),
        }
        Ok(())
    }

    fn statement(&mut self, text: &str, line: usize) -> Result<(), String> {
        if let Some(declared) = text.strip_prefix('.') {
            return self.declaration(declared);
        }
        let (guard, text) = match text.strip_prefix('@') {
            Some(rest) => {
                let (predicate, rest) = rest.split_once(char::is_whitespace).ok_or("a predicate alone")?;
                let wanted = !predicate.starts_with('!');
                (Some((self.register(predicate.trim_start_matches('!')), wanted)), rest.trim())
            }
            None => (None, text),
        };
        let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let operands = split(rest);
        let instruction = self.instruction(name, &operands).map_err(|why| format!("{why} in `{text}`"))?;
        self.kernel.body.push(Guarded { guard, instruction, line });
        Ok(())
    }

    fn declaration(&mut self, text: &str) -> Result<(), String> {
        let kind = text.split_whitespace().next().unwrap_or_default();
        let bytes = match kind {
            "reg" | "pragma" => return Ok(()),
            "shared" => &mut self.kernel.shared_bytes,
            "local" => &mut self.kernel.local_bytes,
            _ => return Err(format!("`.{kind}` is not known here")),
        };
        let array = array(text)?;
        let at = bytes.next_multiple_of(array.align);
        *bytes = at + array.bytes;
        self.places.insert(array.name, at);
        Ok(())
    }

    fn instruction(&mut self, name: &str, operands: &[&str]) -> Result<Instruction, String> {
        let parts: Vec<&str> = name.split('.').collect();
        Ok(match parts[0] {
            "bra" => {
                self.branches.push((self.kernel.body.len(), operands.first().ok_or("no label")?.to_string()));
                Instruction::Branch(usize::MAX)
            }
            "ret" | "exit" => Instruction::Return,
            "trap" => Instruction::Trap,
            "bar" if name == "bar.sync" && *operands == ["0"] => Instruction::Barrier,
            "ld" | "st" => return self.access(&parts, operands),
            "mma" => self.product(name, operands)?,
            // within one space addresses are the same
            "cvta" => self.compute("mov.b64", operands)?,
            _ => self.compute(name, operands)?,
        })
    }

    fn compute(&mut self, name: &str, operands: &[&str]) -> Result<Instruction, String> {
        let operation = operation(name).ok_or_else(|| format!("`{name}` is not known here"))?;
        let mut from = [0; 3];
        if operands.len() > 4 || operands.is_empty() {
            return Err(format!("{} operands", operands.len()));
        }
        for (k, operand) in operands[1..].iter().enumerate() {
            from[k] = self.value(operand)?;
        }
        Ok(Instruction::Compute { operation, to: self.register(operands[0]), from })
    }

    /// A load or a store, `ld.global.nc.v4.b32`.
    fn access(&mut self, parts: &[&str], operands: &[&str]) -> Result<Instruction, String> {
        let last = *parts.last().expect("a type");
        let bytes = width(last).ok_or("a type that is not known here")?;
        let n = match parts[parts.len() - 2] {
            "v2" => 2,
            "v4" => 4,
            _ => 1,
        };
        let names = &parts[1..parts.len() - 1 - usize::from(n > 1)];
        let space = match names {
            ["global"] => Space::Global,
            ["global", "nc"] => Space::ReadOnly,
            ["shared"] => Space::Shared,
            ["local"] => Space::Local,
            ["param"] => Space::Parameter,
            other => return Err(format!("the memory `{}` is not known here", other.join("."))),
        };
        let [first, second] = operands else { return Err(format!("{} operands", operands.len())) };
        let (place, values) = if parts[0] == "ld" { (second, first) } else { (first, second) };
        let values = split(values.trim_matches(['{', '}', ' ']));
        if values.len() != n {
            return Err(format!("{} values", values.len()));
        }
        let place = place.trim_matches(['[', ']', ' ']);
        let (base, offset) = place.split_once('+').unwrap_or((place, "0"));
        let offset = offset.parse::<i64>().map_err(|_| "an offset that is not a number")?;
        let at = self.value(base)?;
        if parts[0] == "ld" {
            let to = values.iter().map(|v| self.register(v)).collect();
            return Ok(Instruction::Load { space, bytes, signed: last.starts_with('s'), to, at, offset });
        }
        let from = values.iter().map(|v| self.value(v)).collect::<Result<_, _>>()?;
        Ok(Instruction::Store { space, bytes, from, at, offset })
    }

    fn product(&mut self, name: &str, operands: &[&str]) -> Result<Instruction, String> {
        let factors = Factors::of(name).ok_or_else(|| format!("`{name}` is not known here"))?;
        let mut lists = operands
            .iter()
            .map(|list| split(list.trim_matches(['{', '}', ' '])).iter().map(|r| self.register(r)).collect());
        let mut next = |n: usize| -> Result<Vec<Register>, String> {
            let list: Vec<Register> = lists.next().ok_or("too few matrices")?;
            if list.len() == n { Ok(list) } else { Err(format!("{} registers of a matrix", list.len())) }
        };
        let (to, a, b, c) = (next(4)?, next(4)?, next(2)?, next(4)?);
        let four = |list: Vec<Register>| [list[0], list[1], list[2], list[3]];
        Ok(Instruction::Multiply(Product { factors, to: four(to), a: four(a), b: [b[0], b[1]], c: four(c) }))
    }

    /// A register that nothing has yet.
    fn next(&self) -> Register {
        (self.registers.len() + self.starts.len()) as Register
    }

    fn register(&mut self, name: &str) -> Register {
        let next = self.next();
        *self.registers.entry(name.to_string()).or_insert(next)
    }

    /// The register of an operand; what is no register has one that holds it from the start.
    fn value(&mut self, text: &str) -> Result<Register, String> {
        let start = match text {
            "%tid.x" => Start::Thread,
            "%ntid.x" => Start::Threads,
            "%ctaid.x" => Start::Block,
            "%nctaid.x" => Start::Blocks,
            _ if text.starts_with('%') && !text.contains('.') => return Ok(self.register(text)),
            _ => match (number(text), self.places.get(text), self.constants.get(text)) {
                (Some(n), ..) => Start::Number(n),
                (_, Some(place), _) => Start::Number(*place as u64),
                (.., Some(constant)) => Start::Constant(*constant),
                _ => return Err(format!("`{text}` is not known here")),
            },
        };
        let next = self.next();
        Ok(*self.starts.entry(start).or_insert(next))
    }
}

/// Operands, cut at commas outside of brackets.
fn split(text: &str) -> Vec<&str> {
    let (mut depth, mut begin, mut parts) = (0, 0, vec![]);
    for (at, c) in text.char_indices() {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[begin..at].trim());
                begin = at + 1;
            }
            _ => {}
        }
    }
    let rest = text[begin..].trim();
    if !rest.is_empty() {
        parts.push(rest);
    }
    parts
}
