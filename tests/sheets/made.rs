//! Workbooks as different programs make them, and the command that reads them.

use std::fs;
use std::io::{Cursor, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use testbed::contest::python::environment;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::PROGRAM;

/// A workbook that openpyxl makes of what is asked for, as `make.py` says.
pub fn openpyxl(asked: &Value) -> anyhow::Result<Vec<u8>> {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let python = PYTHON.get_or_init(|| {
        let environment_dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sheets-python");
        environment(&environment_dir, include_str!("requirements.txt")).map_err(|error| format!("{error:#}"))
    });
    let python = python.as_ref().map_err(|error| anyhow::anyhow!("{error}"))?;
    let to = tempfile::NamedTempFile::with_suffix(".xlsx")?;
    let mut asked = asked.clone();
    asked["to"] = to.path().to_str().context("no text")?.into();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sheets/make.py");
    let mut child = Command::new(python).arg(script).stdin(Stdio::piped()).spawn()?;
    child.stdin.take().context("no input")?.write_all(asked.to_string().as_bytes())?;
    let status = child.wait()?;
    ensure!(status.success(), "openpyxl: {status}");
    Ok(fs::read(to.path())?)
}

const IN_MEMORY: &str = "memory can be written to";

/// A ZIP of these files.
pub fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    for (name, content) in files {
        writer.start_file(*name, options).expect(IN_MEMORY);
        writer.write_all(content).expect(IN_MEMORY);
    }
    writer.finish().expect(IN_MEMORY).into_inner()
}

const RELATIONS: &str = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";

/// A workbook of these rows, texts, and what stands behind the rows; a hidden sheet stands before it. Format 1 is a date's.
pub fn workbook(rows: &str, shared: &str, behind: &str) -> Vec<u8> {
    let sheet = format!("<worksheet><sheetData>{rows}</sheetData>{behind}</worksheet>");
    parts(sheet.as_bytes(), format!("<sst>{shared}</sst>").as_bytes())
}

/// A workbook with this sheet and these texts.
pub fn parts(sheet: &[u8], shared: &[u8]) -> Vec<u8> {
    let workbook = format!(
        "<?xml version=\"1.0\"?><x:workbook xmlns:x=\"a\" xmlns:r=\"{RELATIONS}\"><x:sheets>\
         <x:sheet name=\"Old\" sheetId=\"1\" state=\"hidden\" r:id=\"r9\"/><x:sheet name=\"Лист1\" sheetId=\"2\" r:id=\"r1\"/>\
         </x:sheets></x:workbook>"
    );
    let relation = |id: &str, kind: &str, target: &str| {
        format!("<Relationship Id=\"{id}\" Type=\"{RELATIONS}/{kind}\" Target=\"{target}\"/>")
    };
    let relations = format!(
        "<Relationships>{}{}{}{}</Relationships>",
        relation("r9", "worksheet", "worksheets/old.xml"),
        relation("r1", "worksheet", "/xl/worksheets/sheet1.xml"),
        relation("r2", "styles", "styles.xml"),
        relation("r3", "sharedStrings", "sharedStrings.xml")
    );
    let styles = "<styleSheet><numFmts count=\"1\"><numFmt numFmtId=\"164\" formatCode=\"dd/mm/yy\\ hh:mm\"/></numFmts>\
                  <cellXfs><xf numFmtId=\"0\"/><xf numFmtId=\"164\"/></cellXfs></styleSheet>";
    zip(&[
        ("[Content_Types].xml", b"<Types/>"),
        ("xl/workbook.xml", workbook.as_bytes()),
        ("xl/_rels/workbook.xml.rels", relations.as_bytes()),
        ("xl/styles.xml", styles.as_bytes()),
        ("xl/sharedStrings.xml", shared),
        ("xl/worksheets/sheet1.xml", sheet),
    ])
}

/// How `framehaul tasks check` ended.
pub struct Checked {
    pub status: i32,
    pub out: String,
    pub err: String,
    pub peak_kib: u64,
    pub took: Duration,
}

/// Runs `framehaul tasks check` on a file of this name and content.
pub fn check(name: &Path, content: &[u8], arguments: &[&str]) -> anyhow::Result<Checked> {
    run(Command::new(PROGRAM), name, content, arguments)
}

/// The same where the program may have so many KiB for its data, and ends where it wants more.
pub fn check_within(kib: u32, name: &Path, content: &[u8], arguments: &[&str]) -> anyhow::Result<Checked> {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -d \"$0\" && exec \"$@\"", &kib.to_string(), PROGRAM]);
    run(command, name, content, arguments)
}

fn run(mut command: Command, name: &Path, content: &[u8], arguments: &[&str]) -> anyhow::Result<Checked> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join(name);
    fs::write(&file, content)?;
    let begun = Instant::now();
    let mut child = command
        .args(["tasks", "check"])
        .arg(&file)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (mut out, mut err) = (child.stdout.take().context("no output")?, child.stderr.take().context("no errors")?);
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        err.read_to_string(&mut text).map(|_| text)
    });
    // It prints at its end, and with more than a pipe holds it lives until that is read: its high-water mark is then what it
    // will be. One that prints less may have gone, and has none.
    let mut first = [0; 1];
    let read = out.read(&mut first)?;
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).map(|kib| kib.trim().trim_end_matches(" kB"));
    let mut text = String::from_utf8_lossy(&first[..read]).into_owned();
    out.read_to_string(&mut text)?;
    let status = child.wait()?.code().context("it was killed")?;
    let err = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    let peak_kib = peak.map_or(Ok(0), str::parse)?;
    Ok(Checked { status, out: text, err, peak_kib, took: begun.elapsed() })
}
