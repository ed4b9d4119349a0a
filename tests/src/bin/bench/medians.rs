//! Several runs of everything; the median counts.

use anyhow::Result;

const RUNS: usize = 3;

/// The median of some runs.
///
/// # Errors
/// Of the first run that failed.
pub fn median_of(mut measure: impl FnMut() -> Result<f64>) -> Result<f64> {
    Ok(median((0..RUNS).map(|_| measure()).collect::<Result<_>>()?))
}

/// The medians of both, measured turn by turn so that a busy moment of the host meets both.
pub fn by_turns(
    mut one: impl FnMut() -> Result<f64>,
    mut other: impl FnMut() -> Result<f64>,
) -> Result<(f64, f64)> {
    let (mut ones, mut others) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        ones.push(one()?);
        others.push(other()?);
    }
    Ok((median(ones), median(others)))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
