//! What the measurements in `benches/` share: which binaries are measured, on what machine, and how numbers are put together.
#![allow(clippy::print_stderr, reason = "whoever measures wants to know what")]

use std::path::PathBuf;

use crate::world::{binaries, root};

/// Where the functions as they ship are, and true; where they were not built, the everyday build, and false.
#[must_use]
pub fn shipped(functions: &[&str]) -> (PathBuf, bool) {
    let shipped = root().join("target/lambda");
    if functions.iter().all(|name| shipped.join(name).is_file()) {
        return (shipped, true);
    }
    let from = binaries();
    eprintln!("NOTE: target/lambda lacks the functions as they ship (`cargo xtask package`): the everyday build in");
    eprintln!("      {} is measured instead; its times and sizes say little", from.display());
    (from, false)
}

/// Cores, processor and load.
#[must_use]
pub fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let model = read("/proc/cpuinfo")
        .lines()
        .find_map(|line| Some(line.strip_prefix("model name")?.trim_start_matches([' ', '\t', ':']).to_owned()));
    let load = read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned();
    format!(
        "{cores} cores, {}, load {load} at the end",
        model.unwrap_or_else(|| PathBuf::from(std::env::consts::ARCH).display().to_string())
    )
}

/// The middle one.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// By nearest rank; 0 of nothing.
#[must_use]
pub fn quantile(values: &[f64], part: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let rank = (values.len() as f64 * part).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// Three digits that count, but for what is a little more than one.
#[must_use]
pub fn short(value: f64) -> String {
    match value {
        whole if whole.fract() == 0.0 || whole >= 100.0 => format!("{whole:.0}"),
        tens if tens >= 10.0 => format!("{tens:.1}"),
        near if (1.0..1.01).contains(&near) => format!("{near:.3}"),
        small => format!("{small:.2}"),
    }
}
