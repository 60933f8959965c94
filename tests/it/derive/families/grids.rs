//! Convolutions of pixels, and of their groups.

use super::*;

#[test]
fn convolutions_on_grids() {
    let x = channels_last(&fill(&[2, 3, 8, 8], 1));
    let weights = [("linear1.weight", shaped(&fill(&[4, 3, 3, 3], 2), &[4, 3, 9]))];
    let sizes = [("h", 8), ("w", 8), ("batch", 2)];
    for (boundary, record) in [("torus", "cnn.torus3x3"), ("zero", "cnn.zero3x3")] {
        let text = format!(
            "domain Pixels = grid(h, w) {boundary}\nmodel Conv(x: Pixels -> 3): Pixels -> 4 = linear 4 over 3x3 nobias (x)\n"
        );
        is(record, &channels_first(&results(&text, &sizes, &[("x", &x)], &weights)["y"]));
    }
    let text = "domain Pixels = grid(h, w) zero\n\
                model Conv(x: Pixels -> 3) = linear 4 over 3x3 nobias (x) |> coarsen stride 2\n";
    is("cnn.zero3x3_s2", &channels_first(&results(text, &sizes, &[("x", &x)], &weights)["y"]));
}

#[test]
fn coarsening() {
    let x = channels_last(&fill(&[2, 3, 8, 8], 1));
    let sizes = [("h", 8), ("w", 8), ("batch", 2)];
    for (how, record) in [("coarsen max 2", "cnn.maxpool2"), ("coarsen 2", "cnn.avgpool2")] {
        let text = format!("domain Pixels = grid(h, w)\nmodel Half(x: Pixels -> 3) = x |> {how}\n");
        is(record, &channels_first(&results(&text, &sizes, &[("x", &x)], &[])["y"]));
    }
}

/// GrouPy turns by r quarters in its channel r as our regular representation does in its element r, and mirrors after.
#[test]
fn lifting_convolutions_of_groupy() {
    let x = channels_last(&fill(&[2, 3, 9, 9], 1));
    let weight = map(&fill(&[4, 3, 9], 10), |w| w / 3f64.sqrt());
    let bias = map(&fill(&[4], 11), |b| b / 2.0);
    let weights = [("linear1.weight", weight), ("linear1.bias", bias)];
    for (group, order, record) in [("p4", 4, "p4.lift"), ("p4m", 8, "p4m.lift")] {
        let text = format!(
            "domain Pixels = grid(n, n) under {group}\n\
             model Lift(x: Pixels -> 3): Pixels -> 4 regular = x |> linear 4 regular over 3x3\n"
        );
        let y = &results(&text, &[("n", 9), ("batch", 2)], &[("x", &x)], &weights)["y"];
        is(record, &shaped(y, &[2, 9, 9, 4, order]).permuted(&[0, 3, 4, 1, 2]));
    }
}
