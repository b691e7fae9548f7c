//! What a part of the benchmark has found, and the page that is made of all parts.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Map, Value};
use testbed::contest::Spread;

use crate::machine::Machine;
use crate::svg::Plot;

/// What a part has found.
#[derive(Debug)]
pub struct Section {
    /// The part's name, one word: in file names, and in the JSON the key of `figures`.
    pub name: &'static str,
    /// Its heading.
    pub title: String,
    /// What was done and how to read it: paragraphs of Markdown.
    pub text: String,
    /// Tables, in their order.
    pub tables: Vec<Table>,
    /// Plots, in their order; each becomes a file of its own.
    pub plots: Vec<Plot>,
    /// Every figure, for programs.
    pub figures: Value,
}

/// A table. Its first column is flush left, the others are figures.
#[derive(Debug, Clone)]
pub struct Table {
    /// What stands above it.
    pub caption: String,
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these headings.
    pub fn new(caption: impl Into<String>, headings: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { caption: caption.into(), headings: headings.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// As Markdown.
    fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule: Vec<String> =
            (0..self.headings.len()).map(|column| if column == 0 { "---" } else { "---:" }.to_owned()).collect();
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        format!("{}:\n\n{}{}{rows}", self.caption, line(&self.headings), line(&rule))
    }
}

/// A median with least and most, to so many digits after the point.
pub fn spread(spread: Spread, digits: usize) -> String {
    let Spread { median, min, max } = spread;
    format!("{median:.digits$} ({min:.digits$} to {max:.digits$})")
}

/// All parts of one run.
#[derive(Debug)]
pub struct Report {
    /// What it ran on, and when.
    pub machine: Machine,
    /// The command that does the same again.
    pub command: String,
    /// Whether it was a short one.
    pub quick: bool,
    /// The parts.
    pub sections: Vec<Section>,
}

impl Report {
    /// All figures: each part's under its name, beside what tells of the run.
    pub fn json(&self) -> Value {
        let mut parts = Map::new();
        for section in &self.sections {
            parts.insert(section.name.to_owned(), section.figures.clone());
        }
        serde_json::json!({
            "command": self.command,
            "quick": self.quick,
            "machine": self.machine.json(),
            "parts": parts,
        })
    }

    /// Writes `benchmarks.md` and `benchmarks/*.svg` into a directory, in place of those of an earlier run.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    pub fn write(&self, dir: &Path) -> anyhow::Result<PathBuf> {
        let plots = dir.join("benchmarks");
        fs::create_dir_all(&plots).with_context(|| format!("cannot make {}", plots.display()))?;
        for entry in fs::read_dir(&plots)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "svg") {
                fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        let mut page = format!("# Benchmarks\n\n{}", self.preface());
        for section in &self.sections {
            page.push_str(&format!("\n## {}\n\n{}\n", section.title, section.text.trim()));
            for table in &section.tables {
                page.push_str(&format!("\n{}", table.markdown()));
            }
            for plot in &section.plots {
                let file = format!("{}-{}.svg", section.name, plot.name);
                let path = plots.join(&file);
                fs::write(&path, plot.svg()).with_context(|| format!("cannot write {}", path.display()))?;
                page.push_str(&format!("\n![{}](benchmarks/{file})\n", plot.title));
            }
        }
        let path = dir.join("benchmarks.md");
        fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    fn preface(&self) -> String {
        let quick = if self.quick { " It was a short run: fewer cases, fewer repetitions." } else { "" };
        format!(
            "Written by `{}`: every figure on this page was measured in that one run, and none was typed by hand.{quick}\n\n{}",
            self.command,
            self.machine.markdown()
        )
    }
}
