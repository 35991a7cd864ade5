//! The words of the library's enums in documents, which are those of their variants: `StopCopy` is `stop_copy`. Pure.

use std::fmt::Debug;

/// A variant's name in lower case, with an underscore between its words.
pub(crate) fn word(variant: impl Debug) -> String {
    let mut word = String::new();
    for char in format!("{variant:?}").chars() {
        if char.is_ascii_uppercase() && !word.is_empty() {
            word.push('_');
        }
        word.push(char.to_ascii_lowercase());
    }
    word
}

#[cfg(test)]
mod tests {
    use ringlift::{DeviceStep, Phase};

    use super::*;

    #[test]
    fn a_variant_is_its_words() {
        let words = [word(Phase::StopCopy), word(Phase::Done), word(DeviceStep::PreCopyInfo)];
        assert_eq!(words, ["stop_copy", "done", "pre_copy_info"]);
    }
}
