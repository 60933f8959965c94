//! The name that was probably meant.

/// The candidate at the smallest edit distance from `name`, if that is at most a third of its length (at least 1; a single letter is near to nothing).
pub(super) fn nearest<'n>(name: &str, candidates: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let length = name.chars().count();
    let bound = if length < 2 { 0 } else { (length / 3).max(1) };
    candidates
        .into_iter()
        .filter(|c| c.chars().count().abs_diff(length) <= bound)
        .map(|c| (distance(name, c), c))
        .filter(|(d, c)| *d <= bound || c.eq_ignore_ascii_case(name))
        .min()
        .map(|(_, c)| c)
}

/// Insertions, deletions, replacements and exchanges of neighbours that turn one word into the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_near() {
        assert_eq!(nearest("Pixles", ["Pixels", "Image"]), Some("Pixels"));
        assert_eq!(nearest("image", ["Pixels", "Image"]), Some("Image"));
        assert_eq!(nearest("xyz", ["Pixels", "Image"]), None);
        assert_eq!(nearest("x", ["y"]), None);
    }
}
