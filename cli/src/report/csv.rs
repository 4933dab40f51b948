//! Tables as CSV (RFC 4180), safe to open in a spreadsheet: no cell of anybody's text is taken for a formula.

use super::figures::{round, signed};
use super::table::{Cell, Table};

/// A table, its heads first.
pub(crate) fn csv(table: &Table) -> String {
    let heads = table.columns.iter().map(|column| match column.unit {
        "" => field(column.title),
        unit => field(&format!("{} ({unit})", column.title)),
    });
    let mut text = line(heads);
    for row in &table.rows {
        text.push_str(&line(row.iter().map(cell)));
    }
    text
}

fn line(fields: impl Iterator<Item = String>) -> String {
    let fields: Vec<String> = fields.collect();
    format!("{}\r\n", fields.join(","))
}

/// A number as a number; everything else as text.
fn cell(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) | Cell::Code(text) => field(text),
        Cell::Count(count) => count.to_string(),
        Cell::Rate(rate) => rate.value().map(|value| round(value, 4).to_string()).unwrap_or_default(),
        Cell::Span(span) => span.map(|ms| round(signed(ms) / 1000.0, 3).to_string()).unwrap_or_default(),
        Cell::Amount(number, _) => number.to_string(),
    }
}

/// Text: with an apostrophe before what a spreadsheet would take for a formula, and quoted where it must be.
fn field(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠']);
    let safe = if formula { format!("'{text}") } else { text.to_owned() };
    if safe.contains([',', '"', '\r', '\n']) { format!("\"{}\"", safe.replace('"', "\"\"")) } else { safe }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::super::table::Column;
    use super::*;

    fn table(cells: &[&str]) -> Table {
        Table {
            name: "t",
            title: "T",
            columns: vec![Column { title: "A", unit: "" }, Column { title: "B", unit: "s" }],
            rows: cells.chunks(2).map(|row| row.iter().map(|text| Cell::Text((*text).to_owned())).collect()).collect(),
        }
    }

    /// The fields of a CSV text, read as RFC 4180 says.
    fn read(text: &str) -> Vec<Vec<String>> {
        let (mut rows, mut row, mut field, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
        let mut letters = text.chars().peekable();
        while let Some(letter) = letters.next() {
            match letter {
                '"' if quoted && letters.peek() == Some(&'"') => {
                    letters.next();
                    field.push('"');
                }
                '"' => quoted = !quoted,
                ',' if !quoted => row.push(std::mem::take(&mut field)),
                '\r' if !quoted && letters.peek() == Some(&'\n') => {
                    letters.next();
                    row.push(std::mem::take(&mut field));
                    rows.push(std::mem::take(&mut row));
                }
                letter => field.push(letter),
            }
        }
        rows
    }

    #[test]
    fn formulas_and_quotes_are_made_harmless() {
        let made = csv(&table(&["=1+1", "@a,\"b\"", "-2", "plain"]));
        assert_eq!(made, "A,B (s)\r\n'=1+1,\"'@a,\"\"b\"\"\"\r\n'-2,plain\r\n");
        assert_eq!(cell(&Cell::Amount(-2.5, "USD")), "-2.5", "a number of ours is no formula");
    }

    proptest! {
        #[test]
        fn what_is_read_back_is_what_was_written_and_no_formula(one in any::<String>(), two in any::<String>()) {
            let rows = read(&csv(&table(&[&one, &two])));
            prop_assert_eq!(rows.len(), 2);
            prop_assert_eq!(rows[1].len(), 2);
            for (was, is) in [&one, &two].into_iter().zip(&rows[1]) {
                let apart = ["'", was.as_str()].concat();
                prop_assert!(is == was || *is == apart);
                prop_assert!(!is.starts_with(['=', '+', '-', '@', '\t', '\r']), "{:?}", is);
            }
        }
    }
}
