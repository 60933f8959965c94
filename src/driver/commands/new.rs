//! `gdlc new`: a starter project.

use crate::driver::arguments::New;
use crate::driver::failure::Failure;
use crate::driver::output::say;
use crate::driver::tensors::{self, Precision, Tensor, Tensors};
use crate::math::Rng;

const STARTER: &str = "\
# A classifier of images that does not care how the image is turned.
domain Pixels = grid(n, n) under p4

model NAME[c = 8](x: Pixels -> 1): class(10) =
  x |> linear c regular over 3x3 |> relu
    |> linear c regular over 3x3 |> relu
    |> pool max |> linear class(10)
";

const README: &str = "\
# NAME

A model in the language of gdlc: `model.gdl`. `images.safetensors` holds four images of random numbers, `x [4, 16, 16, 1]`: put yours there.

    gdlc derive model.gdl                                          what was derived, and what it costs
    gdlc verify model.gdl                                          the certificate: it is equivariant
    gdlc run model.gdl --input images.safetensors --init 1         run it with fresh weights
    gdlc build model.gdl -o out                                    a library for C, Python and others
";

const IMAGES: [usize; 4] = [4, 16, 16, 1];

/// Makes a folder of that name with a model, data to run it on and what to type. Fails where it exists.
pub fn new(options: &New) -> Result<(), Failure> {
    let folder = &options.name;
    if folder.exists() {
        return Err(Failure::call(format!("{} exists", folder.display())));
    }
    std::fs::create_dir_all(folder).map_err(|e| Failure::io("make", folder, &e))?;
    let stem = folder.file_name().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let (file, data, readme) = (folder.join("model.gdl"), folder.join("images.safetensors"), folder.join("README.md"));
    for (path, text) in [(&file, STARTER), (&readme, README)] {
        let text = text.replace("NAME", &type_name(&stem));
        std::fs::write(path, text).map_err(|e| Failure::io("write", path, &e))?;
    }
    let mut rng = Rng::new(1);
    let numbers = (0..IMAGES.iter().product()).map(|_| rng.normal()).collect();
    let images = Tensors::from([("x".to_string(), Tensor::real(IMAGES.to_vec(), numbers))]);
    tensors::write(&data, &images, Precision::Single)?;
    if options.json {
        let files = [&file, &data, &readme].map(|p| p.display().to_string());
        say!("{}", serde_json::json!({ "files": files }));
    } else {
        say!("{} is ready; next:", folder.display());
        say!("  gdlc derive {}", file.display());
        say!("  gdlc run {} --input {} --init 1", file.display(), data.display());
    }
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
