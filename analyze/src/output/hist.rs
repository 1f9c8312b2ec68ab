//! Power-of-two histograms as the BCC tools print them.

use std::fmt::Write;

const STARS: usize = 40;

/// A bucket: its bounds, both included, and how many values fell into it.
pub type Bucket = (i64, i64, i64);

/// The text of a histogram. Buckets between the first (which begins at 0) and the last that were never hit are printed too.
pub fn log2(buckets: &[Bucket], unit: &str) -> String {
    let Some(last) = buckets.iter().map(|bucket| bucket.0).max() else { return String::new() };
    // Beyond 32 bits the columns become wider, and the bars shorter.
    let wide = last >= 1 << 32;
    let (indent, label, number, stars) = if wide { (15, 29, 20, STARS / 2) } else { (5, 19, 10, STARS) };
    let mut out = String::new();
    let _ = writeln!(out, "{:indent$}{unit:<label$} : count    distribution", "");
    let most = buckets.iter().map(|bucket| bucket.2).max().unwrap_or_default().max(1);
    let mut bounds = (0_i64, 1_i64);
    while bounds.0 <= last {
        let count = buckets.iter().filter(|bucket| bucket.0 == bounds.0).map(|bucket| bucket.2).sum::<i64>();
        let filled = usize::try_from(i128::from(count.max(0)) * stars as i128 / i128::from(most)).unwrap_or_default();
        let bar = "*".repeat(filled);
        let _ = writeln!(out, "{:>number$} -> {:<number$} : {count:<8} |{bar:<stars$}|", bounds.0, bounds.1);
        // The bucket that holds the largest number there is is the last.
        let Some(next) = bounds.1.checked_add(1) else { break };
        bounds = (next, next.checked_mul(2).map_or(i64::MAX, |end| end - 1));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_like_the_live_tool() {
        // What runqlat 0.26 printed for these counts.
        let expected = "     usecs               : count    distribution
         0 -> 1          : 0        |                                        |
         2 -> 3          : 1        |****************************************|
         4 -> 7          : 0        |                                        |
         8 -> 15         : 0        |                                        |
        16 -> 31         : 1        |****************************************|
        32 -> 63         : 1        |****************************************|
";
        assert_eq!(log2(&[(2, 3, 1), (16, 31, 1), (32, 63, 1)], "usecs"), expected);
        let expected = "     msecs               : count    distribution
         0 -> 1          : 749      |****************************************|
         2 -> 3          : 26       |*                                       |
         4 -> 7          : 10       |                                        |
";
        assert_eq!(log2(&[(0, 1, 749), (2, 3, 26), (4, 7, 10)], "msecs"), expected);
    }

    #[test]
    fn absurd_bounds_end() {
        assert!(log2(&[(i64::MAX, i64::MAX, 1)], "usecs").lines().count() < 70);
        assert_eq!(log2(&[], "usecs"), "");
    }
}
