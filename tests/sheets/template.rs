//! The template, as the command writes it, and the manual.

use std::fs;
use std::path::Path;
use std::process::Command;

use framehaul::sheet::{COLUMNS, read};

use super::PROGRAM;
use super::made::check;

fn template(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(PROGRAM).args(["tasks", "template"]).args(arguments).output().expect("framehaul starts");
    assert_eq!((output.status.code(), &*String::from_utf8_lossy(&output.stderr)), (Some(0), ""));
    output.stdout
}

#[test]
fn the_template_is_accepted_in_both_forms() -> anyhow::Result<()> {
    for (name, bytes) in [("t.xlsx", template(&[])), ("t.csv", template(&["--format", "csv"]))] {
        let sheet = read(&bytes).unwrap();
        assert_eq!((sheet.tasks.len(), sheet.tasks[0].enabled), (1, false), "{name}");
        let checked = check(Path::new(name), &bytes, &[])?;
        assert_eq!(checked.status, 0, "{}", checked.err);
        let row = checked.out.lines().nth(1).unwrap_or_default();
        for piece in ["shop-north-1", "192.0.2.10", "channels 1,2,3,4", "2026-11-19 08:00:00 to 2026-11-19 18:00:00"] {
            assert!(row.contains(piece), "{name}: {row}");
        }
        assert!(checked.err.contains("0 of 1 tasks are switched on"), "{}", checked.err);
    }
    Ok(())
}

#[test]
fn the_manual_lists_every_column() {
    let manual = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/sheets.md")).unwrap();
    let mut missing = String::new();
    for column in &COLUMNS {
        let row = format!("| `{}` | {} | {} |", column.name, column.takes, column.synonyms.join(", "));
        if !manual.contains(&row) {
            missing += &format!("{row}\n");
        }
    }
    assert!(missing.is_empty(), "docs/sheets.md lacks\n{missing}");
}

#[test]
fn a_file_that_is_not_there_has_a_code_of_its_own() {
    let output = Command::new(PROGRAM).args(["tasks", "check", "/nowhere/tasks.csv"]).output().unwrap();
    assert_eq!(output.status.code(), Some(66));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nowhere/tasks.csv"));
}
