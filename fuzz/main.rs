//! A mutational fuzzer of the text stages, in plain Rust: `cargo run --example fuzz -- SECONDS [SEED]`.
//! It starts from the programs of the project and `fuzz/corpus`, changes them by bytes, by words and by pieces of
//! each other, and stops at the first text that panics, takes too long, or does not survive formatting; that text
//! is written to `fuzz/corpus`, where a test reads it ever after. Texts that lead to a new outcome are mutated again.

use gdlc::base::diagnostic::Severity;
use gdlc::base::render::render;
use gdlc::base::span::SourceMap;
use gdlc::sema::{LibraryOnly, check};
use gdlc::syntax::{format, parse};
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, process};

/// One text may take this long.
const LIMIT: Duration = Duration::from_secs(1);
const LONGEST: usize = 1 << 16;

const WORDS: &str = "use group domain signal layer model linear depthwise bilinear symmetric harmonics bessel within \
    sum mean max softmax attend by coarsen stride refine lift restrict pool over at nobias convention scan recur learn \
    tangent break if else repeat under in generated complete edges regular vector position phase scalar quotient irreps \
    rotary ball class all box disk past cap ring ( ) [ ] { } | |> -> ++ + - * / ^ == != <= >= < > = : , . .. ~ @ # \" \
    3x3 16x1o 1e5 0.5 99999999999999999999 x i j c é";

fn main() {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<u64>().expect("a number"));
    let (seconds, seed) = (args.next().unwrap_or(10), args.next().unwrap_or(1));
    let mut texts = seeds();
    let mut outcomes = BTreeSet::new();
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let (start, mut count) = (Instant::now(), 0u64);
    while start.elapsed().as_secs() < seconds {
        let text = mutate(&texts, &mut random);
        count += 1;
        let began = Instant::now();
        let outcome = on_small_stack(&text);
        match outcome {
            Ok(outcome) if began.elapsed() < LIMIT => {
                if outcomes.insert(hash(&outcome)) && text.len() < 4096 && texts.len() < 50_000 {
                    texts.push(text);
                }
            }
            Ok(_) => stop(&text, "takes too long"),
            Err(_) => stop(&text, "panics"),
        }
    }
    println!("{count} texts, {} outcomes, seed {seed}: nothing found", outcomes.len());
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

fn stop(text: &str, what: &str) -> ! {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(format!("found_{}.gdl", process::id()));
    fs::write(&path, text).expect("the corpus is writable");
    println!("{what}: {}", path.display());
    process::exit(1)
}

/// What became of a text, roughly: which mistakes in which order, or the first lines of its form.
fn on_small_stack(text: &str) -> Result<String, Box<dyn std::any::Any + Send>> {
    let text = text.to_string();
    let thread = std::thread::Builder::new().stack_size(2 << 20);
    thread.spawn(move || outcome(&text)).expect("a thread starts").join()
}

fn outcome(text: &str) -> String {
    let mut sources = SourceMap::default();
    let id = sources.add("fuzz.gdl", text);
    let (program, mistakes) = parse(&sources, id);
    if !mistakes.is_empty() {
        let shown = render(&mistakes, &sources);
        assert!(shown.len() < 1 << 20, "a report of {} bytes", shown.len());
        return mistakes.iter().map(|m| format!("{}{}\n", m.code, m.message)).collect();
    }
    let once = format(&program);
    let mut again = SourceMap::default();
    let id = again.add("fuzz.gdl", once.as_str());
    let (reread, mistakes) = parse(&again, id);
    assert!(mistakes.is_empty(), "the formatted text does not parse:\n{once}");
    assert_eq!(format(&reread), once, "formatting is not settled");
    let (checked, findings) = check(&program, &mut sources, &LibraryOnly, &[]);
    let wrong = findings.iter().any(|d| d.severity == Severity::Error);
    assert_eq!(checked.is_none(), wrong, "a program exactly where there is no error");
    assert!(render(&findings, &sources).len() < 1 << 20, "a long report");
    let shape: String = once.chars().filter(|c| !c.is_alphanumeric()).take(400).collect();
    findings.iter().map(|d| format!("{}\n", d.code)).chain([shape]).collect()
}

/// The programs of the project.
fn seeds() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: Vec<PathBuf> =
        ["tests/programs", "tests/errors", "lib", "examples", "fuzz/corpus"].iter().map(|f| root.join(f)).collect();
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "gdl") {
                found.extend(fs::read(&path).ok().map(|bytes| (path, String::from_utf8_lossy(&bytes).into_owned())));
            }
        }
    }
    found.sort();
    found.into_iter().map(|(_, text)| text).collect()
}

/// xorshift64*: the same seed, the same texts.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n.max(1)
    }
}

fn mutate(texts: &[String], random: &mut Random) -> String {
    let mut text = texts[random.below(texts.len())].clone();
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    for _ in 0..1 + random.below(6) {
        let (from, to) = piece(&text, random);
        match random.below(9) {
            0 => text.replace_range(from..to, ""),
            1 | 2 => text.insert_str(from, words[random.below(words.len())]),
            3 => text.replace_range(from..to, &format!(" {} ", words[random.below(words.len())])),
            4 => {
                let other = &texts[random.below(texts.len())];
                let (a, b) = piece(other, random);
                text.insert_str(from, &other[a..b]);
            }
            5 => text.insert_str(from, &text[from..to].to_string().repeat(1 + random.below(60))),
            6 => text.insert_str(from, ["\n", "\n  ", " ", "\t", "\r\n", "\0", "\u{feff}"][random.below(7)]),
            7 => {
                let word = words[random.below(words.len())].to_string() + [" ", "\n", "", " x "][random.below(4)];
                text.insert_str(from, &word.repeat(1 + random.below(300)));
            }
            _ => {
                let (a, b) = piece(&text, random);
                let moved = text[a..b].to_string();
                text.insert_str(from, &moved);
            }
        }
        if text.len() > LONGEST {
            let cut = boundary(&text, LONGEST);
            text.truncate(cut);
        }
    }
    text
}

fn boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// A short range of a text.
fn piece(text: &str, random: &mut Random) -> (usize, usize) {
    let from = boundary(text, random.below(text.len() + 1));
    let length = [1, 4, 16, 80, 400][random.below(5)];
    (from, boundary(text, from + random.below(length + 1)).max(from))
}
