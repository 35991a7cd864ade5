//! `ringlift report` as a user types it: tables, a page, and what it refuses.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/reports");

fn report(args: &[&str]) -> Output {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("ringlift"));
    command.arg("report").args(args).current_dir(FIXTURES).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn tables_are_those_that_the_transfer_printed() {
    let shown = report(&["sender.json"]);
    assert_eq!(shown.status.code(), Some(0));
    let tables = text(&shown.stdout);
    assert!(tables.starts_with("sender complete\n\ndevice"), "{tables}");
    assert!(tables.contains("5.37 ms"), "{tables}");
    let words = text(&shown.stderr);
    assert!(
        words.starts_with("warning[congestion_control]: bbr paces a link") && words.contains("hint: "),
        "{words}"
    );
}

#[test]
fn several_reports_are_shown_under_their_names() {
    let shown = report(&["sender.json", "sender-failed.json"]);
    let tables = text(&shown.stdout);
    assert!(tables.contains("== sender\n") && tables.contains("== sender-failed\n"), "{tables}");
    assert!(text(&shown.stderr).contains("error: "), "the error of the one that failed");
    assert_eq!(shown.status.code(), Some(0), "that a transfer failed is not a failure of showing it");
}

#[test]
fn a_page_goes_to_a_file_or_to_stdout() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page.html");
    let shown = report(&["sender.json", "receiver.json", "--html", path.to_str().unwrap()]);
    assert_eq!((shown.status.code(), shown.stdout.len()), (Some(0), 0), "{}", text(&shown.stderr));
    let page = fs::read_to_string(&path).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
    assert_eq!(text(&report(&["sender.json", "receiver.json", "--html", "-"]).stdout), page);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn what_cannot_be_shown_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let sender = fs::read_to_string(Path::new(FIXTURES).join("sender.json")).unwrap();
    let broken = file("broken.json", "{\"schema\": \"ringlift.report.v2\"}");
    let (many, empty) = (file("many.json", &sender.repeat(9)), file("empty.json", ""));
    let kept = file("kept.json", &sender);
    let page = folder.path().join("page.html").to_str().unwrap().to_owned();
    for (input, output, told) in [
        ("capture.json", &page, "is no report of a transfer: its schema is ringlift.capture.v1"),
        ("missing.json", &page, "missing.json cannot be read"),
        (&broken, &page, "broken.json is not read: missing field"),
        (&empty, &page, "there is no report in these files"),
        (&many, &page, "there are 9 transfers, and a page shows at most 8"),
        (&kept, &kept, "would overwrite"),
    ] {
        let shown = report(&[input, "--html", output]);
        let words = text(&shown.stderr);
        assert_eq!(shown.status.code(), Some(2), "{input}: {words}");
        assert!(
            words.starts_with("error: ") && words.contains(told) && words.contains("\nhint: "),
            "{words}"
        );
    }
    assert!(!Path::new(&page).exists());
    assert_eq!(fs::read_to_string(&kept).unwrap(), sender);
}
