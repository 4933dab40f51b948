//! Charts as inline SVG: functions of numbers, without script, colour never alone. The table behind a chart is the page's.

use super::figures::{real, signed};
use super::markup::{Markup, element, text, void, with_text};
use super::table::{duration, grouped};

/// What a mark means. Each has a colour and a pattern of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    Good,
    Bad,
    Open,
    Quiet,
}

impl Look {
    const fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Open => "open",
            Self::Quiet => "quiet",
        }
    }
}

/// A series of numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Series {
    pub(crate) name: &'static str,
    pub(crate) look: Look,
    pub(crate) values: Vec<u64>,
}

/// A row of times: the middle, the slow end, and what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) label: String,
    pub(crate) median: i64,
    pub(crate) p90: i64,
    pub(crate) target: Option<i64>,
}

/// The patterns that marks are filled with. Once a page.
pub(crate) fn patterns() -> Markup {
    let pattern = |id: &'static str, class: &'static str, path: &'static str| {
        let size = [("id", id), ("width", "6"), ("height", "6"), ("patternUnits", "userSpaceOnUse")];
        let ground = void("rect", &[("width", "6"), ("height", "6"), ("class", class)]);
        let lines = void("path", &[("d", path), ("class", "on-fill")]);
        element("pattern", &size, [ground, lines])
    };
    let patterns = [
        pattern("p-bad", "bad", "M0 6L6 0M-1 1L1 -1M5 7L7 5"),
        pattern("p-open", "open", "M0 3H6"),
        pattern("p-quiet", "quiet", "M3 0V6"),
    ];
    element(
        "svg",
        &[("class", "defs"), ("aria-hidden", "true"), ("focusable", "false")],
        [element("defs", &[], patterns)],
    )
}

/// Columns of parts on top of each other, one a label.
pub(crate) fn columns(id: &str, title: &str, labels: &[String], series: &[Series]) -> Markup {
    const WIDTH: f64 = 720.0;
    const HEIGHT: f64 = 230.0;
    const LEFT: f64 = 46.0;
    const BOTTOM: f64 = 200.0;
    const TOP: f64 = 34.0;
    let total =
        |nth: usize| series.iter().map(|series| series.values.get(nth).copied().unwrap_or_default()).sum::<u64>();
    let most = nice((0..labels.len()).map(total).max().unwrap_or_default());
    let height = |count: u64| real(count) / real(most) * (BOTTOM - TOP);
    let step = (WIDTH - LEFT - 4.0) / real(labels.len().max(1) as u64);
    let mut marks = vec![legend(series.iter().map(|series| (series.name, series.look)), LEFT)];
    for part in 0..=2u64 {
        let y = BOTTOM - height(most * part / 2);
        marks.push(line("grid", LEFT, y, WIDTH - 4.0, y));
        marks.push(label(LEFT - 6.0, y + 4.0, "end", &grouped(most * part / 2)));
    }
    let every = labels.len().div_ceil(8).max(1);
    for (nth, name) in labels.iter().enumerate() {
        let x = LEFT + step * real(nth as u64);
        let mut y = BOTTOM;
        for series in series {
            let count = series.values.get(nth).copied().unwrap_or_default();
            if count > 0 {
                y -= height(count);
                marks.push(bar(
                    series.look,
                    x + step * 0.08,
                    y,
                    step * 0.84,
                    height(count),
                    &told(name, series.name, count),
                ));
            }
        }
        if nth % every == 0 && x < WIDTH - 40.0 {
            marks.push(label(x, BOTTOM + 18.0, "start", name));
        }
    }
    marks.push(line("axis", LEFT, BOTTOM, WIDTH - 4.0, BOTTOM));
    let sums: Vec<String> =
        series.iter().map(|series| format!("{} {}", series.name, grouped(series.values.iter().sum()))).collect();
    svg(id, title, &format!("{}.", sums.join(", ")), WIDTH, HEIGHT, marks)
}

/// Rows of parts beside each other, each row a whole.
pub(crate) fn shares(id: &str, title: &str, labels: &[String], series: &[Series]) -> Markup {
    const WIDTH: f64 = 480.0;
    const LEFT: f64 = 108.0;
    const ROW: f64 = 34.0;
    const TOP: f64 = 34.0;
    let mut marks = vec![legend(series.iter().map(|series| (series.name, series.look)), 0.0)];
    let mut said = Vec::new();
    for (nth, name) in labels.iter().enumerate() {
        let y = TOP + ROW * real(nth as u64);
        let total: u64 = series.iter().filter_map(|series| series.values.get(nth)).sum();
        marks.push(label(LEFT - 8.0, y + 15.0, "end", name));
        if total == 0 {
            marks.push(label(LEFT, y + 15.0, "start", "none"));
            said.push(format!("{name}: none"));
            continue;
        }
        let mut x = LEFT;
        let mut parts = Vec::new();
        for series in series {
            let count = series.values.get(nth).copied().unwrap_or_default();
            let width = real(count) / real(total) * (WIDTH - LEFT - 4.0);
            if count > 0 {
                marks.push(bar(series.look, x, y, width, 22.0, &told(name, series.name, count)));
                let number = grouped(count);
                if width > 9.0 * real(number.len() as u64) + 10.0 {
                    marks.push(plate(x + width / 2.0, y + 11.0, &number));
                }
                parts.push(format!("{} {number}", series.name));
            }
            x += width;
        }
        said.push(format!("{name}: {}", parts.join(", ")));
    }
    let height = TOP + ROW * real(labels.len() as u64);
    svg(id, title, &format!("{}.", said.join("; ")), WIDTH, height, marks)
}

/// From the middle to the slow end, a row each, on a scale where each step is ten times the last.
pub(crate) fn times(id: &str, title: &str, rows: &[Times]) -> Markup {
    const WIDTH: f64 = 480.0;
    const LEFT: f64 = 108.0;
    const ROW: f64 = 34.0;
    const TOP: f64 = 34.0;
    const TICKS: [(i64, &str); 7] = [
        (1_000, "1 s"),
        (10_000, "10 s"),
        (60_000, "1 min"),
        (600_000, "10 min"),
        (3_600_000, "1 h"),
        (86_400_000, "1 d"),
        (2_592_000_000, "30 d"),
    ];
    let all = rows.iter().flat_map(|row| [Some(row.median), Some(row.p90), row.target]).flatten();
    let most = all.clone().max().unwrap_or(1_000).max(10_000);
    let least = all.min().unwrap_or(1_000).clamp(100, 1_000);
    let log = |ms: i64| signed(ms.max(least)).log10();
    let place = |ms: i64| LEFT + (log(ms) - log(least)) / (log(most) - log(least)) * (WIDTH - LEFT - 34.0) + 6.0;
    let bottom = TOP + ROW * real(rows.len() as u64);
    let mut marks = vec![
        void("circle", &[("cx", "6"), ("cy", "11"), ("r", "5"), ("class", "good")]),
        label(16.0, 15.0, "start", "median"),
        void("path", &[("d", "M74 6L84 11L74 16Z"), ("class", "bad")]),
        label(90.0, 15.0, "start", "90th percentile"),
        line("target", 204.0, 3.0, 204.0, 19.0),
        label(211.0, 15.0, "start", "target"),
    ];
    let mut free = 0.0;
    for (ms, name) in TICKS.into_iter().filter(|(ms, _)| (least..=most).contains(ms)) {
        let x = place(ms);
        marks.push(line("grid", x, TOP - 4.0, x, bottom));
        if x >= free {
            marks.push(label(x, bottom + 16.0, "middle", name));
            free = x + 44.0;
        }
    }
    let mut said = Vec::new();
    for (nth, row) in rows.iter().enumerate() {
        let y = TOP + ROW * real(nth as u64) + 11.0;
        let (from, until) = (place(row.median), place(row.p90));
        marks.push(label(LEFT - 8.0, y + 4.0, "end", &row.label));
        marks.push(line("span", from, y, until, y));
        let mut words =
            format!("{}: median {}, 90th percentile {}", row.label, duration(row.median), duration(row.p90));
        if let Some(target) = row.target {
            let x = place(target);
            marks.push(line("target", x, y - 10.0, x, y + 10.0));
            words.push_str(&format!(", target {}", duration(target)));
        }
        let hint = |words: &str| with_text("title", &[], words);
        let circle = [("cx", &*number(from)), ("cy", &*number(y)), ("r", "5"), ("class", "good")];
        marks.push(element("circle", &circle, [hint(&words)]));
        let arrow = format!(
            "M{} {}L{} {}L{} {}Z",
            number(until - 5.0),
            number(y - 5.0),
            number(until + 5.0),
            number(y),
            number(until - 5.0),
            number(y + 5.0)
        );
        marks.push(element("path", &[("d", &*arrow), ("class", "bad")], [hint(&words)]));
        said.push(words);
    }
    svg(
        id,
        title,
        &format!("{}. Each step of the scale is longer than the last.", said.join("; ")),
        WIDTH,
        bottom + 24.0,
        marks,
    )
}

fn svg(id: &str, title: &str, says: &str, width: f64, height: f64, marks: Vec<Markup>) -> Markup {
    let (title_id, says_id) = (format!("{id}-title"), format!("{id}-says"));
    let labelled = format!("{title_id} {says_id}");
    let view = format!("0 0 {} {}", number(width), number(height));
    let class = if width > 500.0 { "chart wide" } else { "chart" };
    let attributes = [("class", class), ("viewBox", &*view), ("role", "img"), ("aria-labelledby", &*labelled)];
    let heads = [with_text("title", &[("id", &title_id)], title), with_text("desc", &[("id", &says_id)], says)];
    element("svg", &attributes, heads.into_iter().chain(marks))
}

fn legend<'a>(names: impl Iterator<Item = (&'a str, Look)>, left: f64) -> Markup {
    let mut x = left;
    let mut marks = Vec::new();
    for (name, look) in names {
        marks.push(bar(look, x, 4.0, 12.0, 12.0, name));
        marks.push(label(x + 17.0, 15.0, "start", name));
        x += 32.0 + 6.9 * real(name.chars().count() as u64);
    }
    element("g", &[], marks)
}

fn told(label: &str, series: &str, count: u64) -> String {
    format!("{label}: {series} {}", grouped(count))
}

fn bar(look: Look, x: f64, y: f64, width: f64, height: f64, says: &str) -> Markup {
    let class = format!("fill-{}", look.class());
    let (x, y, width, height) = (number(x), number(y), number(width), number(height));
    let attributes = [("class", &*class), ("x", &*x), ("y", &*y), ("width", &*width), ("height", &*height)];
    element("rect", &attributes, [with_text("title", &[], says)])
}

fn line(class: &'static str, x1: f64, y1: f64, x2: f64, y2: f64) -> Markup {
    let (x1, y1, x2, y2) = (number(x1), number(y1), number(x2), number(y2));
    void("line", &[("class", class), ("x1", &*x1), ("y1", &*y1), ("x2", &*x2), ("y2", &*y2)])
}

fn label(x: f64, y: f64, anchor: &'static str, says: &str) -> Markup {
    element("text", &[("x", &*number(x)), ("y", &*number(y)), ("text-anchor", anchor)], [text(says)])
}

/// A number on a plate of the page's colour: readable on any pattern.
fn plate(x: f64, y: f64, says: &str) -> Markup {
    let width = 7.6 * real(says.chars().count() as u64) + 6.0;
    let (left, top) = (number(x - width / 2.0), number(y - 7.5));
    let ground =
        [("class", "plate"), ("x", &*left), ("y", &*top), ("width", &*number(width)), ("height", "15"), ("rx", "3")]
            .map(|(name, value)| (name, value.to_owned()));
    let ground: Vec<(&'static str, &str)> = ground.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Markup::all([void("rect", &ground), label(x, y + 4.5, "middle", says)])
}

/// A coordinate, to a tenth.
fn number(value: f64) -> String {
    let tenths = (value * 10.0).round() / 10.0 + 0.0;
    if tenths.is_finite() { tenths.to_string() } else { "0".to_owned() }
}

/// The next round number, for the end of a scale: 2, 4, 6, 8, 10, 20, 40, …
fn nice(count: u64) -> u64 {
    let mut scale = 1u64;
    loop {
        for step in [2, 4, 6, 8, 10] {
            if count <= scale.saturating_mul(step) {
                return scale.saturating_mul(step);
            }
        }
        scale = scale.saturating_mul(10);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn series(values: &[u64]) -> Vec<Series> {
        vec![Series { name: "fixed", look: Look::Good, values: values.to_vec() }]
    }

    #[test]
    fn a_scale_ends_at_a_round_number() {
        assert_eq!([0, 1, 3, 5, 11, 21, 483].map(nice), [2, 2, 4, 6, 20, 40, 600]);
    }

    #[test]
    fn a_chart_has_a_title_and_says_its_numbers() {
        let svg = shares("sla", "Targets", &["HIGH".to_owned()], &series(&[7])).into_string();
        assert!(
            svg.contains("<title id=\"sla-title\">Targets</title><desc id=\"sla-says\">HIGH: fixed 7.</desc>"),
            "{svg}"
        );
    }

    proptest! {
        #[test]
        fn every_number_of_a_chart_is_one(values in prop::collection::vec(any::<u32>(), 0..70), median in any::<i64>(), p90 in any::<i64>()) {
            let labels: Vec<String> = values.iter().map(ToString::to_string).collect();
            let counts: Vec<u64> = values.iter().map(|value| u64::from(*value)).collect();
            let row = Times { label: "x".to_owned(), median, p90, target: Some(p90) };
            for chart in [columns("a", "t", &labels, &series(&counts)), shares("b", "t", &labels, &series(&counts)), times("c", "t", &[row])] {
                let svg = chart.into_string();
                prop_assert!(!svg.contains("NaN") && !svg.contains("inf"), "{}", svg);
            }
        }
    }
}
