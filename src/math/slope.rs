//! Slopes of functions by differences: an oracle for derivatives.

/// The steps, from the one that rounding spoils least.
const STEPS: [f64; 4] = [1e-4, 1e-5, 1e-6, 1e-7];
/// The claim and the differences are the same slope.
const SAME: f64 = 1e-8;

/// The slope at 0 of a function that is given by its values: of central differences, the one that is nearest to a claimed slope.
///
/// A difference is taken of two steps, so that its error of the second order cancels (Richardson). One whose step reaches over a kink (of a
/// relu, of a greatest number) is no slope at 0, which shorter steps find; what is not the slope is not that of any step.
///
/// # Errors
/// Those of the function.
pub fn slope_near<E>(claimed: f64, mut at: impl FnMut(f64) -> Result<f64, E>) -> Result<f64, E> {
    let mut central = |t: f64| Ok((at(t)? - at(-t)?) / (2.0 * t));
    let mut nearest = f64::NAN;
    for step in STEPS {
        let found = (4.0 * central(step)? - central(2.0 * step)?) / 3.0;
        if nearest.is_nan() || (found - claimed).abs() < (nearest - claimed).abs() {
            nearest = found;
        }
        if (nearest - claimed).abs() <= SAME * claimed.abs() {
            break;
        }
    }
    Ok(nearest)
}

#[cfg(test)]
mod tests {
    use super::slope_near;

    fn near(claimed: f64, f: impl Fn(f64) -> f64) -> f64 {
        slope_near(claimed, |t| Ok::<f64, ()>(f(t))).expect("it has values")
    }

    #[test]
    fn smooth_functions_have_their_slope() {
        let f = |t: f64| (3.0 * t + 0.4).sin();
        let slope = 3.0 * 0.4f64.cos();
        assert!((near(slope, f) - slope).abs() < 1e-8 * slope);
    }

    #[test]
    fn kinks_nearby_do_not_hide_the_slope() {
        for distance in [3e-5, -4e-6, 5e-7] {
            let f = |t: f64| 2.0 * t + 7.0 * (t - distance).max(0.0);
            let slope = if distance > 0.0 { 2.0 } else { 9.0 };
            assert!((near(slope, f) - slope).abs() < 1e-6, "{distance}");
        }
    }

    #[test]
    fn a_wrong_slope_is_none_of_the_differences() {
        let f = |t: f64| 2.0 * t + 7.0 * (t - 3e-5).max(0.0);
        for wrong in [1.9, 2.001, -2.0] {
            assert!((near(wrong, f) - wrong).abs() > 5e-4, "{wrong}");
        }
        assert!(near(1.0, |_| f64::NAN).is_nan());
    }
}
