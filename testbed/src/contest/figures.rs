//! Figures for people and for reports.

use std::fmt::Write as _;

use anyhow::Context;
use serde_json::{Value, json};

/// Median, least and most of several runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The middle one; of an even number, the lower of the two.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

impl Spread {
    /// Of these.
    ///
    /// # Errors
    ///
    /// When there are none.
    pub fn of(mut values: Vec<f64>) -> anyhow::Result<Self> {
        values.sort_by(f64::total_cmp);
        let median = *values.get(values.len().saturating_sub(1) / 2).context("nothing was measured")?;
        let (min, max) = (values[0], values[values.len() - 1]);
        Ok(Self { median, min, max })
    }

    /// With three digits behind the point.
    pub fn json(self) -> Value {
        json!({ "median": round(self.median), "min": round(self.min), "max": round(self.max) })
    }
}

pub(crate) fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// Columns of text, the first one flush left and the others right.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these headings.
    pub fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|heading| (*heading).to_owned()).collect()] }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The table, a line a row.
    pub fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let widths: Vec<usize> = (0..columns)
            .map(|column| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max())
            .map(Option::unwrap_or_default)
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                let written =
                    if column == 0 { write!(line, "{cell:<width$}") } else { write!(line, "  {cell:>width$}") };
                written.expect("a String takes everything");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_one_that_was_measured() {
        let spread = Spread::of(vec![5.0, 1.0, 3.0, 2.0, 4.0]).unwrap();
        assert_eq!(spread, Spread { median: 3.0, min: 1.0, max: 5.0 });
        assert_eq!(Spread::of(vec![2.0, 1.0]).unwrap().median, 1.0);
        assert!(Spread::of(Vec::new()).is_err());
    }

    #[test]
    fn columns_stand_below_each_other() {
        let mut table = Table::new(&["who", "ms"]);
        table.row(["a longer name".to_owned(), "1.2".to_owned()]);
        table.row(["b".to_owned(), "12.25".to_owned()]);
        assert_eq!(table.text(), "who               ms\na longer name    1.2\nb              12.25\n");
    }
}
