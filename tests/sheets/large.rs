//! Sheets that are large, or only seem small.

use std::path::Path;
use std::time::Duration;

use rust_xlsxwriter::Workbook;

use super::made::{Checked, check, check_within, parts, zip};
use super::refused;

const ROWS: u32 = 100_000;
/// Three times what `make accept` asks for: this machine may be busy.
const MOST: Duration = Duration::from_secs(30);
const MOST_KIB: u64 = 200 << 10;
/// What a program may have for its data that refuses a bomb, KiB; the bombs unpack to several times as much.
const BOMB_KIB: u32 = 96 << 10;

fn bounded(what: &str, checked: &Checked) {
    let Checked { status, out, err, peak_kib, took } = checked;
    assert_eq!(*status, 0, "{what}: {err}");
    println!("{what}: {took:.2?}, {:.0} MiB, {} bytes of output", *peak_kib as f64 / 1024.0, out.len());
    assert!(*took < MOST, "{what}: {took:?}");
    assert!((1..MOST_KIB).contains(peak_kib), "{what}: {peak_kib} KiB");
}

fn head() -> [&'static str; 10] {
    ["id", "host", "user", "password", "channels", "start", "end", "container", "bucket", "notes"]
}

fn values(n: u32) -> [String; 10] {
    let day = 1 + n % 28;
    [
        format!("task-{n}"),
        format!("10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255),
        "export".to_owned(),
        format!("s3cret-{n}"),
        "101,201".to_owned(),
        format!("2026-11-{day:02} 08:00:00"),
        format!("2026-11-{day:02} 18:00:00"),
        "mp4".to_owned(),
        format!("gs://recordings/shop-{n}"),
        format!("the recorder of shop {n}, at the back door"),
    ]
}

#[test]
fn a_hundred_thousand_rows_are_read_in_bounded_time_and_memory() -> anyhow::Result<()> {
    let mut csv = head().join(";") + "\n";
    for n in 0..ROWS {
        csv += &(values(n).join(";") + "\n");
    }
    bounded("CSV", &check(Path::new("large.csv"), csv.as_bytes(), &["--format", "json"])?);

    let mut workbook = Workbook::new();
    let sheet = workbook.add_worksheet();
    sheet.write_row(0, 0, head())?;
    for n in 0..ROWS {
        sheet.write_row(n + 1, 0, values(n))?;
    }
    let workbook = workbook.save_to_buffer()?;
    let checked = check(Path::new("large.xlsx"), &workbook, &["--format", "json"])?;
    bounded("XLSX", &checked);
    assert_eq!(checked.out.matches("\"row\":").count(), ROWS as usize);
    assert!(!checked.out.contains("s3cret"));
    bounded("XLSX, as a table", &check(Path::new("large.xlsx"), &workbook, &[])?);

    let one_more = format!("{csv}{}\n", values(ROWS).join(";"));
    assert!(refused("one more", one_more.as_bytes()).to_string().contains("more than 100000 tasks"));
    // As many faults as there are cells: most are only counted.
    let wrong = csv.replace(";mp4;", ";avi;").replace("s3cret", "\u{7}canary");
    let checked = check(Path::new("wrong.csv"), wrong.as_bytes(), &[])?;
    assert_eq!((checked.status, checked.err.lines().count()), (65, 1_001), "{}", &checked.err[..2_000]);
    assert!(checked.err.ends_with("error: and 199000 more\n") && !checked.err.contains("canary"));
    Ok(())
}

/// Runs a bomb with little memory; what it says.
fn defused(content: &[u8]) -> anyhow::Result<String> {
    assert!(content.len() < 4 << 20, "{} bytes are no bomb", content.len());
    let checked = check_within(BOMB_KIB, Path::new("bomb.xlsx"), content, &[])?;
    assert_eq!(checked.status, 65, "{}", checked.err);
    assert_eq!(checked.err.lines().count(), 1, "{}", checked.err);
    assert!(checked.took < MOST, "{:?}", checked.took);
    Ok(checked.err)
}

#[test]
fn bombs_are_refused_in_little_memory() -> anyhow::Result<()> {
    let filled = |mib: usize, before: &str, fill: &str, after: &str| {
        let mut xml = before.to_owned();
        xml.reserve((mib << 20) + fill.len() + after.len());
        while xml.len() < mib << 20 {
            xml.push_str(fill);
        }
        xml.push_str(after);
        xml.into_bytes()
    };
    let blank = filled(300, "<worksheet><sheetData>", "<row></row>      ", "</sheetData></worksheet>");
    let mut honest = parts(&blank, b"<sst/>");
    assert!(defused(&honest)?.contains("unpacks to more than 256 MiB"));
    // The same with small sizes in the list of files, and before the data.
    let (size, small) = (u32::try_from(blank.len())?.to_le_bytes(), 1_000u32.to_le_bytes());
    let mut lies = 0;
    for at in 0..honest.len() - 4 {
        if honest[at..at + 4] == size {
            honest[at..at + 4].copy_from_slice(&small);
            lies += 1;
        }
    }
    assert!(lies >= 1, "the sizes were not found");
    let told = defused(&honest)?;
    assert!(told.contains("unpacks to more than") || told.contains("is damaged"), "{told}");

    // One text, one tag, very many texts, and a run of entities.
    let row = b"<worksheet><sheetData><row><c t=\"s\"><v>0</v></c></row></sheetData></worksheet>";
    for (what, shared, word) in [
        ("a text", filled(200, "<sst><si><t>", "aaaaaaaaaaaaaaaa", "</t></si></sst>"), "is damaged"),
        ("a tag", filled(200, "<sst><si a=\"", "aaaaaaaaaaaaaaaa", "\"/></sst>"), "is damaged"),
        ("texts", filled(100, "<sst>", "<si/><si><t/></si>", "</sst>"), "unpacks to more than"),
        // Too long for a name of a column, and cut off long before its end.
        ("entities", filled(40, "<sst><si><t>", "&amp;&#65;", "</t></si></sst>"), "neither names of columns nor"),
    ] {
        let told = defused(&parts(row, &shared))?;
        assert!(told.contains(word), "{what}: {told}");
    }

    // More files than any workbook has, and one that is no workbook.
    let names: Vec<String> = (0..5_000).map(|n| format!("f{n}")).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    assert!(defused(&zip(&files))?.contains("a ZIP of more than 4096 files"));
    assert!(defused(&zip(&[("holiday.jpg", b"\xff\xd8")]))?.contains("a ZIP, and no workbook"));
    // Brackets within brackets, and very many values of one cell.
    assert!(defused("[".repeat(3 << 20).as_bytes())?.contains("JSON"));
    assert!(
        defused(format!("[{{\"user\":\"u\",\"password\":\"p\",\"host\":[{}0]}}]", "0,".repeat(1 << 20)).as_bytes())?
            .contains("row 1 (`host`)")
    );
    Ok(())
}
