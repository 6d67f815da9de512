//! Tables, and values as a terminal shows them.

use serde_json::Value;

/// Its head, and what it shows of an object of the API.
pub type Column = (&'static str, Width, fn(&Value) -> String);

/// Characters at the least, and the side that they stand on.
#[derive(Clone, Copy, Debug)]
pub enum Width {
    Left(usize),
    Right(usize),
}

/// The head, then a line for each of `rows`.
pub fn table(columns: &[Column], rows: &[Value]) -> Vec<String> {
    [head(columns)].into_iter().chain(rows.iter().map(|row| line(columns, row))).collect()
}

pub fn head(columns: &[Column]) -> String {
    join(columns, |(head, ..)| (*head).to_owned())
}

pub fn line(columns: &[Column], row: &Value) -> String {
    join(columns, |(.., show)| show(row))
}

fn join(columns: &[Column], cell: impl Fn(&Column) -> String) -> String {
    let padded = |column: &Column| match (cell(column), column.1) {
        (cell, Width::Left(width)) => format!("{cell:<width$}"),
        (cell, Width::Right(width)) => format!("{cell:>width$}"),
    };
    let line = columns.iter().map(padded).collect::<Vec<_>>().join(" ");
    line.trim_end().to_owned()
}

/// A string of the server's, safe for a terminal.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().chars().filter(|c| !c.is_control()).collect()
}

/// `-` where there is none.
pub fn number(value: &Value) -> String {
    if value.is_null() { "-".into() } else { value.to_string() }
}

/// Seconds as h:mm:ss.
pub fn span(seconds: f64) -> String {
    let seconds = seconds as u64;
    format!("{}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Width::{Left, Right};
    use serde_json::json;

    #[test]
    fn columns_stand_below_their_heads() {
        let columns: [Column; 3] = [
            ("NAME", Left(6), |row| text(&row["n"])),
            ("IN", Right(5), |row| number(&row["i"])),
            ("", Left(0), |_| String::new()),
        ];
        let rows = [json!({"n": "a\u{1b}[31m", "i": 1500}), json!({"n": "longer one"})];
        assert_eq!(table(&columns, &rows), ["NAME      IN", "a[31m   1500", "longer one     -"]);
    }
}
