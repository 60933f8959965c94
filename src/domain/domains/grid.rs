//! A lattice of cells with 1 to 3 axes, under the shifts and a point group of integer matrices.
//! Pairs of cells under the shifts are displacements; a window must be closed under the point group.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::base::size::Size;
use crate::symmetry::GroupRef;

use super::only_words;
use crate::domain::acting::GroupSpec;
use crate::domain::{Batching, Block, Boundary, Coarse, Domain, DomainError, DomainSpec, Neighbourhood, Orbits};

/// Windows of more cells than this are refused: a filter's basis has as many columns.
const MAX_WINDOW: usize = 1 << 12;

#[derive(Clone, Debug)]
struct Grid {
    axes: Vec<Size>,
    boundary: Boundary,
    point_group: GroupRef,
    symmetry: String,
    text: String,
}

pub(super) fn make(spec: &DomainSpec) -> Result<Arc<dyn Domain>, DomainError> {
    only_words(spec, &["torus", "zero", "reflect"])?;
    if spec.sizes.is_empty() || spec.sizes.len() > 3 {
        return Err(DomainError::BadConstruction(format!("a grid has 1 to 3 axes, here are {}", spec.sizes.len())));
    }
    let boundary = match spec.words.as_slice() {
        [] => Boundary::Zero,
        [word] => match word.as_str() {
            "torus" => Boundary::Torus,
            "reflect" => Boundary::Reflect,
            _ => Boundary::Zero,
        },
        _ => return Err(DomainError::BadConstruction("a grid has one boundary: torus, zero or reflect".to_string())),
    };
    let group = spec.group.clone().unwrap_or_else(|| GroupSpec::named("shift"));
    let point_group = group.lattice_point_group(spec.sizes.len())?;
    let grid =
        Grid { axes: spec.sizes.clone(), boundary, point_group, symmetry: group.to_string(), text: spec.text.clone() };
    grid.axes_may_be_exchanged()?;
    Ok(Arc::new(grid))
}

impl Grid {
    /// A matrix that exchanges two axes needs them equally long.
    fn axes_may_be_exchanged(&self) -> Result<(), DomainError> {
        for matrix in self.matrices() {
            for (i, row) in matrix.iter().enumerate() {
                if let Some(j) = row.iter().enumerate().position(|(j, x)| *x != 0 && self.axes[i] != self.axes[j]) {
                    return Err(DomainError::WrongGroup {
                        group: self.symmetry.clone(),
                        why: format!("it exchanges axes {} and {}, so they must have the same size", i + 1, j + 1),
                    });
                }
            }
        }
        Ok(())
    }

    fn matrices(&self) -> Vec<Vec<Vec<i64>>> {
        self.point_group.finite().and_then(|f| f.integer_action()).expect("grid: the point group has integer matrices")
    }

    /// The displacements of a window, closed under the point group.
    fn window(&self, extents: &[usize]) -> Result<Orbits, DomainError> {
        let extents = match extents {
            [k] if self.axes.len() > 1 => vec![*k; self.axes.len()],
            _ => extents.to_vec(),
        };
        if extents.len() != self.axes.len() {
            return Err(DomainError::NoSuchNeighbourhood(format!(
                "a window of {} axes on a grid of {}",
                extents.len(),
                self.axes.len()
            )));
        }
        let cells = extents.iter().try_fold(1usize, |n, k| n.checked_mul(*k)).unwrap_or(usize::MAX);
        if cells == 0 || cells > MAX_WINDOW {
            return Err(DomainError::NoSuchNeighbourhood(format!(
                "a window of {cells} cells: it must have 1 to {MAX_WINDOW}"
            )));
        }
        self.has_room(&extents)?;
        let mut displacements = vec![Vec::new()];
        for &k in &extents {
            // An even window reaches one cell further forward: k = 2 is {0, 1}.
            let first = -((k as i64 - 1) / 2);
            displacements = displacements
                .into_iter()
                .flat_map(|d: Vec<i64>| (0..k as i64).map(move |x| d.iter().copied().chain([first + x]).collect()))
                .collect();
        }
        self.closed(displacements, extents)
    }

    /// Whether all cells of a window are different cells of the grid somewhere; otherwise some weights would do nothing new.
    fn has_room(&self, extents: &[usize]) -> Result<(), DomainError> {
        for (&k, n) in extents.iter().zip(&self.axes) {
            let Some(n) = n.as_fixed() else { continue };
            let (most, why) = match self.boundary {
                Boundary::Torus => (n, "on a torus a wider window meets some cells twice"),
                Boundary::Zero | Boundary::Reflect => {
                    (2 * n - 1, "the outer cells of a wider window lie beyond the edge from everywhere")
                }
            };
            if k > most {
                return Err(DomainError::NoSuchNeighbourhood(format!(
                    "a window of {k} cells along an axis of {n}: it has room for at most {most}, since {why}"
                )));
            }
        }
        Ok(())
    }

    fn disk(&self, radius: f64) -> Result<Orbits, DomainError> {
        if !(0.0..=128.0).contains(&radius) {
            return Err(DomainError::NoSuchNeighbourhood(format!(
                "a disc of radius {radius}: it must be 0 to 128 cells"
            )));
        }
        let reach = radius.floor() as i64;
        let Orbits::Lattice { displacements, window, .. } =
            self.window(&vec![2 * reach as usize + 1; self.axes.len()])?
        else {
            unreachable!("grid: a window is a set of displacements")
        };
        let inside = |d: &Vec<i64>| d.iter().map(|x| (x * x) as f64).sum::<f64>() <= radius * radius + 1e-9;
        self.closed(displacements.into_iter().filter(inside).collect(), window)
    }

    /// A window is a union of orbits exactly when the generators map it to itself.
    fn closed(&self, displacements: Vec<Vec<i64>>, window: Vec<usize>) -> Result<Orbits, DomainError> {
        let inside: BTreeSet<&Vec<i64>> = displacements.iter().collect();
        for matrix in self.matrices() {
            for d in &displacements {
                let image: Vec<i64> = matrix.iter().map(|row| row.iter().zip(d).map(|(a, b)| a * b).sum()).collect();
                if !inside.contains(&image) {
                    return Err(DomainError::NotInvariant { displacement: d.clone(), image });
                }
            }
        }
        Ok(Orbits::Lattice { displacements, window, boundary: self.boundary })
    }
}

impl Domain for Grid {
    fn describe(&self) -> String {
        self.text.clone()
    }

    fn axes(&self) -> Vec<Size> {
        self.axes.clone()
    }

    fn batching(&self) -> Batching {
        Batching::Leading
    }

    fn stabiliser(&self) -> GroupRef {
        self.point_group.clone()
    }

    fn symmetry(&self) -> String {
        self.symmetry.clone()
    }

    fn boundary(&self) -> Option<Boundary> {
        Some(self.boundary)
    }

    fn neighbourhoods(&self) -> &'static str {
        "a window such as `3x3` or `box(k, k)`, `disk(r)`"
    }

    fn orbits(&self, over: &Neighbourhood) -> Result<Orbits, DomainError> {
        match over {
            Neighbourhood::Point => Ok(Orbits::Point),
            Neighbourhood::Window(extents) => self.window(extents),
            Neighbourhood::Disk(radius) => self.disk(*radius),
            Neighbourhood::All => Err(DomainError::NotDerived(format!("`over all` on {}", self.text))),
            Neighbourhood::Edges => Err(DomainError::NoSuchNeighbourhood("a grid has no edges".to_string())),
            Neighbourhood::Radius(r) => {
                Err(DomainError::NoSuchNeighbourhood(format!("a grid has no cutoff radius ({r})")))
            }
        }
    }

    /// Blocks of `s` cells tile the grid exactly when `n mod s = 0`. Every `s`-th cell is mapped to itself by a
    /// reflection of the grid exactly when `(n - 1) mod s = 0` (the windows of `linear` keep the size:
    /// `n + 2p - k = n - 1`); on a torus there is no first cell and `n mod s = 0` decides.
    fn coarsen(&self, factor: usize, how: Block) -> Result<Coarse, DomainError> {
        let strided = how == Block::Stride && self.boundary != Boundary::Torus;
        let (mut axes, mut exact_if) = (Vec::new(), Vec::new());
        for &axis in &self.axes {
            let divided = if strided { axis.plus(-1) } else { axis };
            match divided.modulo(factor) {
                Some(0) => {}
                Some(_) => return Err(DomainError::NotDivisible { size: divided, factor }),
                None => exact_if.push((divided, factor)),
            }
            let size = if strided { divided.over(factor).plus(1) } else { divided.over(factor) };
            if size.as_fixed() == Some(0) {
                return Err(DomainError::NotDivisible { size: divided, factor });
            }
            axes.push(size);
        }
        exact_if.dedup();
        let text = format!("{} coarsened by {factor}", self.text);
        Ok(Coarse { domain: Arc::new(Grid { axes, text, ..self.clone() }), exact_if })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(sizes: &[usize], words: &[&str], group: GroupSpec) -> Result<Arc<dyn Domain>, DomainError> {
        make(&DomainSpec {
            constructor: "grid".to_string(),
            sizes: sizes.iter().map(|n| Size::fixed(*n)).collect(),
            words: words.iter().map(|w| w.to_string()).collect(),
            ambient: None,
            group: Some(group),
            text: "grid".to_string(),
        })
    }

    fn p4m() -> GroupSpec {
        GroupSpec::Semidirect(Box::new(GroupSpec::named("shift")), Box::new(GroupSpec::named("D4")))
    }

    #[test]
    fn a_window_is_a_union_of_orbits_or_an_error() {
        let g = grid(&[8, 8], &[], p4m()).unwrap();
        let Ok(Orbits::Lattice { displacements, .. }) = g.orbits(&Neighbourhood::Window(vec![3, 3])) else {
            panic!("3x3 is closed")
        };
        assert_eq!(displacements.len(), 9);
        assert!(matches!(g.orbits(&Neighbourhood::Window(vec![4, 4])), Err(DomainError::NotInvariant { .. })));
        assert!(matches!(g.orbits(&Neighbourhood::Window(vec![3, 5])), Err(DomainError::NotInvariant { .. })));
        let shift = grid(&[8, 8], &[], GroupSpec::named("shift")).unwrap();
        assert!(shift.orbits(&Neighbourhood::Window(vec![3, 5])).is_ok());
        let Ok(Orbits::Lattice { displacements, .. }) = g.orbits(&Neighbourhood::Disk(2.0)) else {
            panic!("a disc is closed")
        };
        assert_eq!(displacements.len(), 13);
    }

    #[test]
    fn coarsening_is_exact_by_divisibility() {
        let g = grid(&[9, 9], &[], p4m()).unwrap();
        assert!(matches!(g.coarsen(2, Block::Cells), Err(DomainError::NotDivisible { .. })));
        assert_eq!(g.coarsen(2, Block::Stride).unwrap().domain.axes(), vec![Size::fixed(5); 2]);
        assert_eq!(g.coarsen(3, Block::Cells).unwrap().domain.axes(), vec![Size::fixed(3); 2]);
        let torus = grid(&[8, 8], &["torus"], p4m()).unwrap();
        assert_eq!(torus.coarsen(2, Block::Stride).unwrap().domain.axes(), vec![Size::fixed(4); 2]);
    }

    #[test]
    fn a_rotation_needs_equal_axes() {
        assert!(matches!(grid(&[8, 9], &[], p4m()), Err(DomainError::WrongGroup { .. })));
        assert!(matches!(grid(&[8, 8], &[], GroupSpec::named("perm")), Err(DomainError::WrongGroup { .. })));
        assert!(matches!(grid(&[], &[], GroupSpec::named("shift")), Err(DomainError::BadConstruction(_))));
    }
}
