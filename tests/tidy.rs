//! The project's own rules, checked against the source: which module may import which, where unsafe code lives, how
//! long files and functions may be, and that nothing is left over.
//!
//! The source is read as syntax, so that a rule holds however a line is written. Each rule is a function over sources
//! in `tidy/`, beside tests with snippets that break it and snippets that keep it; here it is applied to the source
//! itself.

#[path = "tidy/names.rs"]
mod names;
#[path = "tidy/rooms.rs"]
mod rooms;
#[path = "tidy/shape.rs"]
mod shape;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/words.rs"]
mod words;

use source::{files, program};

#[track_caller]
fn assert_none(found: Vec<String>) {
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn no_room_knows_more_than_it_may() {
    assert_none(rooms::strangers(&program(), &rooms::RULES));
}

#[test]
fn modules_import_each_other_in_no_circle() {
    assert_none(rooms::circles(&program(), &rooms::RULES));
}

#[test]
fn qemu_is_named_in_its_own_modules_alone() {
    assert_none(rooms::qemu_abroad(&program(), rooms::QEMU_EXCEPTIONS));
}

#[test]
fn the_command_uses_the_librarys_public_api_alone() {
    assert_none(words::command_past_the_api(&program()));
}

#[test]
fn tokio_stays_in_the_rendezvous() {
    assert_none(words::tokio(&program()));
}

#[test]
fn unsafe_code_stays_in_three_files() {
    let program = program();
    for name in words::UNSAFE {
        assert!(program.iter().any(|source| source.name == name), "{name} is a file");
    }
    assert_none(words::unsafe_code(&program));
}

#[test]
fn nothing_is_allowed_that_could_be_expected() {
    assert_none(words::allowed_lints(&program()));
}

#[test]
fn nothing_is_unwrapped_or_left_for_later() {
    assert_none(words::left_for_later(&program()));
}

#[test]
fn every_file_says_what_it_is_and_is_short() {
    assert_none(shape::misshapen_files(&program()));
}

#[test]
fn every_function_fits_a_screen() {
    assert_none(shape::long_functions(&program(), shape::LONG_FUNCTIONS));
}

#[test]
fn every_file_is_part_of_the_program() {
    assert_none(shape::orphans(&files()));
}

#[test]
fn every_module_that_offers_something_is_used() {
    assert_none(shape::unused_modules(&program()));
}

#[test]
fn every_warning_can_come() {
    assert_none(shape::warnings_that_cannot_come(&program(), &[]));
}

/// The rules that the code and the tests cite exist in `docs/PROTOCOL.md`.
#[test]
fn every_cited_rule_of_the_protocol_exists() {
    assert_none(words::cited_rules(&files(), &words::protocol()));
}
