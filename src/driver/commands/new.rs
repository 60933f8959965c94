//! `gdlc new`: a starter project.

use crate::driver::arguments::New;
use crate::driver::failure::Failure;

const STARTER: &str = "\
# A classifier of images that does not care how the image is turned.
domain Pixels = grid(n, n) under p4

model NAME[c = 8](x: Pixels -> 1): class(10) =
  x |> linear c regular over 3x3 |> relu
    |> linear c regular over 3x3 |> relu
    |> pool max |> linear class(10)
";

/// Makes a folder of that name with `model.gdl` in it. Fails where it exists.
pub fn new(options: &New) -> Result<(), Failure> {
    let folder = &options.name;
    if folder.exists() {
        return Err(Failure::call(format!("{} exists", folder.display())));
    }
    std::fs::create_dir_all(folder).map_err(|e| Failure::io("make", folder, &e))?;
    let file = folder.join("model.gdl");
    let stem = folder.file_name().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    std::fs::write(&file, STARTER.replace("NAME", &type_name(&stem))).map_err(|e| Failure::io("write", &file, &e))?;
    println!("{} is ready; next: gdlc derive {}", file.display(), file.display());
    Ok(())
}

/// A model's name from a folder's: letters and digits, the first a capital.
fn type_name(stem: &str) -> String {
    let mut res = String::new();
    for part in stem.split(|c: char| !c.is_ascii_alphanumeric()).filter(|p| !p.is_empty()) {
        let (head, tail) = part.split_at(1);
        res.push_str(&head.to_ascii_uppercase());
        res.push_str(tail);
    }
    if res.starts_with(|c: char| c.is_ascii_alphabetic()) { res } else { format!("Model{res}") }
}
