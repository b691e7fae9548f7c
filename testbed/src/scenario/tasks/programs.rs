//! The programs that people make sheets with: openpyxl, as it comes from PyPI, and LibreOffice, without its windows.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use quick_xml::escape::escape;
use serde_json::{Value, json};

use crate::contest::python;

/// openpyxl and what it needs, pinned.
const REQUIREMENTS: &str = include_str!("../../../../tests/sheets/requirements.txt");
const FILL: &str = include_str!("fill.py");
/// The names that stand for what in a document of LibreOffice's.
const NAMES: &str = "xmlns:office=\"urn:oasis:names:tc:opendocument:xmlns:office:1.0\" \
                     xmlns:table=\"urn:oasis:names:tc:opendocument:xmlns:table:1.0\" \
                     xmlns:text=\"urn:oasis:names:tc:opendocument:xmlns:text:1.0\" \
                     xmlns:style=\"urn:oasis:names:tc:opendocument:xmlns:style:1.0\" \
                     xmlns:number=\"urn:oasis:names:tc:opendocument:xmlns:datastyle:1.0\"";
/// How it shows a date, as it does by itself where somebody types one.
const DATE: &str = "<office:automatic-styles><number:date-style style:name=\"N1\"><number:month number:style=\"long\"/>\
                    <number:text>/</number:text><number:day number:style=\"long\"/><number:text>/</number:text>\
                    <number:year/><number:text> </number:text><number:hours number:style=\"long\"/>\
                    <number:text>:</number:text><number:minutes number:style=\"long\"/></number:date-style>\
                    <style:style style:name=\"date\" style:family=\"table-cell\" style:data-style-name=\"N1\"/>\
                    </office:automatic-styles>";

/// Makes workbooks in a directory.
#[derive(Debug)]
pub(super) struct Programs {
    python: PathBuf,
    framehaul: PathBuf,
    dir: PathBuf,
}

impl Programs {
    /// Installs what is missing into `environment`; workbooks come to lie in `dir`.
    pub(super) fn install(environment: &Path, framehaul: &Path, dir: PathBuf) -> anyhow::Result<Self> {
        let environment = std::path::absolute(environment).context("there is no directory that we are in")?;
        let python = python::environment(&environment, REQUIREMENTS).context("cannot install openpyxl")?;
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Self { python, framehaul: framehaul.to_owned(), dir })
    }

    /// A workbook of these rows; `merged` are cells that are one, as `B2:B3`.
    pub(super) fn openpyxl(&self, rows: &[Vec<Value>], merged: &[&str]) -> anyhow::Result<Vec<u8>> {
        self.fill(json!({ "rows": rows, "merged": merged }))
    }

    /// Our template with these rows in it, whose first one are names of columns.
    pub(super) fn template(&self, rows: &[Vec<Value>]) -> anyhow::Result<Vec<u8>> {
        let template = self.dir.join("template.xlsx");
        let made =
            Command::new(&self.framehaul).args(["tasks", "template"]).output().context("cannot start framehaul")?;
        ensure!(made.status.success(), "there is no template: {}", String::from_utf8_lossy(&made.stderr));
        fs::write(&template, made.stdout).context("cannot keep the template")?;
        self.fill(json!({ "rows": rows, "template": template }))
    }

    fn fill(&self, mut asked: Value) -> anyhow::Result<Vec<u8>> {
        let to = self.dir.join("made.xlsx");
        asked["to"] = json!(to);
        let mut child = Command::new(&self.python).args(["-c", FILL]).stdin(Stdio::piped()).spawn()?;
        child.stdin.take().context("it is piped")?.write_all(asked.to_string().as_bytes())?;
        let status = child.wait()?;
        ensure!(status.success(), "openpyxl: {status}");
        fs::read(&to).context("openpyxl has made nothing")
    }

    /// What LibreOffice makes of a sheet of its own with these rows.
    pub(super) fn libreoffice(&self, rows: &[Vec<Value>]) -> anyhow::Result<Vec<u8>> {
        let (own, profile) = (self.dir.join("sheet.fods"), self.dir.join("profile"));
        fs::write(&own, document(rows)?).context("cannot write a sheet for LibreOffice")?;
        let made = self.dir.join("sheet.xlsx");
        drop(fs::remove_file(&made));
        let mut command = Command::new("soffice");
        // With settings of its own, beside those of whoever sits here.
        command.arg(format!("-env:UserInstallation=file://{}", profile.display()));
        command.args(["--headless", "--convert-to", "xlsx", "--outdir"]).arg(&self.dir).arg(&own);
        let output = command.stdin(Stdio::null()).env("HOME", &self.dir).output();
        let output =
            output.context("cannot start soffice: make accept installs it, or package libreoffice-calc-nogui")?;
        let said = || String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "soffice: {}: {}", output.status, said());
        fs::read(&made).with_context(|| format!("soffice has made nothing: {}", said()))
    }
}

/// A document of LibreOffice's in one file: texts, and dates as such.
fn document(rows: &[Vec<Value>]) -> anyhow::Result<String> {
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><office:document {NAMES} office:version=\"1.2\" \
         office:mimetype=\"application/vnd.oasis.opendocument.spreadsheet\">{DATE}<office:body><office:spreadsheet>\
         <table:table table:name=\"Sheet1\">"
    );
    for row in rows {
        text.push_str("<table:table-row>");
        for cell in row {
            match (cell.as_str(), cell["date"].as_str()) {
                (Some(value), _) => write!(
                    text,
                    "<table:table-cell office:value-type=\"string\"><text:p>{}</text:p></table:table-cell>",
                    escape(value)
                ),
                (None, Some(date)) => write!(
                    text,
                    "<table:table-cell table:style-name=\"date\" office:value-type=\"date\" office:date-value=\"{date}\"><text:p>{date}</text:p>\
                     </table:table-cell>"
                ),
                (None, None) => anyhow::bail!("{cell} is neither a text nor a date"),
            }
            .context("a text takes more text")?;
        }
        text.push_str("</table:table-row>");
    }
    Ok(text + "</table:table></office:spreadsheet></office:body></office:document>")
}
