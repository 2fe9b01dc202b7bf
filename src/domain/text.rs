//! Unicode text of names and addresses: normal forms, and which characters belong to words.

use icu_casemap::CaseMapper;
use icu_normalizer::ComposingNormalizerBorrowed;
use icu_properties::{
    CodePointMapData, CodePointSetData,
    props::{DefaultIgnorableCodePoint, GeneralCategory, GeneralCategoryGroup},
};

/// The form in which text is stored and compared, NFC (UAX #15): canonically equivalent text has the same bytes.
pub(super) fn nfc(text: &str) -> String {
    // ASCII is the usual case, and needs none of Unicode's tables.
    if text.is_ascii() { text.to_owned() } else { ComposingNormalizerBorrowed::new_nfc().normalize(text).into_owned() }
}

/// The form in which unique indexes compare text: NFC after Unicode's case folding, which differs from lower case. `ẞ`,
/// `ß` and `SS` are the same, and so are `Σ`, `σ` and `ς`.
pub(crate) fn folded(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    // Folding can leave a sequence that composes to a character that folds again.
    let once = nfc(&CaseMapper::new().fold_string(&nfc(text)));
    nfc(&CaseMapper::new().fold_string(&once))
}

/// [`nfc`] in lower case: how an address is displayed.
pub(super) fn lower(text: &str) -> String {
    if text.is_ascii() { text.to_ascii_lowercase() } else { nfc(&nfc(text).to_lowercase()) }
}

/// Whether text has only letters and digits of any script, the marks that belong to letters, and the characters of
/// `also`.
///
/// A mark cannot be first, because it would combine with the text before it. An invisible character is refused even if
/// Unicode calls it a letter (U+3164, the Hangul filler): two names must not look the same.
pub(super) fn is_word(text: &str, also: &str) -> bool {
    const PARTS: GeneralCategoryGroup =
        GeneralCategoryGroup::Letter.union(GeneralCategoryGroup::Mark).union(GeneralCategoryGroup::Number);
    let is_part = |c: char| {
        c.is_ascii_alphanumeric()
            || also.contains(c)
            || !c.is_ascii() && PARTS.contains(category(c)) && !is_invisible(c)
    };
    let begins_with_mark = |c: char| !c.is_ascii() && GeneralCategoryGroup::Mark.contains(category(c));
    !text.starts_with(begins_with_mark) && text.chars().all(is_part)
}

/// Whether NFKC changes text in NFC: `ａｄｍｉｎ` to `admin`.
///
/// Exceptions are the vowel sign AM of Thai and Lao and two ligatures of Lao, which cannot be written in another way.
pub(super) fn is_changed_by_nfkc(text: &str) -> bool {
    let nfkc = ComposingNormalizerBorrowed::new_nfkc();
    let rest: String = text.chars().filter(|c| !matches!(c, '\u{e33}' | '\u{eb3}' | '\u{edc}' | '\u{edd}')).collect();
    !nfkc.is_normalized(&rest)
}

/// Control and format characters and line separators: they reorder other text, forge log lines, or are invisible. The
/// two joiners are allowed, because Persian, Hindi and some emoji need them.
pub(super) fn is_control_or_format(c: char) -> bool {
    use GeneralCategory::{Control, Format, LineSeparator, ParagraphSeparator};
    matches!(category(c), Control | Format | LineSeparator | ParagraphSeparator)
        && !matches!(c, '\u{200c}' | '\u{200d}')
}

pub(super) fn is_invisible(c: char) -> bool {
    !c.is_ascii() && CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}

fn category(c: char) -> GeneralCategory {
    CodePointMapData::<GeneralCategory>::new().get(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_char() -> impl Iterator<Item = char> {
        ('\0'..=char::MAX).filter(|c| category(*c) != GeneralCategory::Unassigned)
    }

    #[test]
    fn every_visible_letter_mark_and_digit_of_unicode_is_part_of_a_word() {
        let mut count = 0;
        for c in every_char().filter(|c| !is_invisible(*c)) {
            let group = category(c);
            let belongs = GeneralCategoryGroup::Letter.contains(group)
                || GeneralCategoryGroup::Mark.contains(group)
                || group == GeneralCategory::DecimalNumber;
            let word = format!("a{c}");
            if belongs {
                assert!(is_word(&word, ""), "U+{:04X}", c as u32);
                count += 1;
            } else if !GeneralCategoryGroup::Number.contains(group) {
                assert!(!is_word(&word, ""), "U+{:04X}", c as u32);
            }
        }
        println!("letters, marks and digits: {count}");
        assert!(count > 130_000);
    }

    #[test]
    fn a_letter_and_its_capital_fold_to_the_same_and_folding_is_stable() {
        for c in every_char() {
            let key = folded(&c.to_string());
            assert_eq!(folded(&key), key, "U+{:04X}", c as u32);
            let upper: String = c.to_uppercase().collect();
            // Unicode says that the capital of ı is I, which is the capital of i.
            if !matches!(c, 'ı') {
                assert_eq!(folded(&upper), key, "U+{:04X}", c as u32);
            }
        }
    }

    #[test]
    fn normalising_twice_changes_nothing() {
        let changes = |c: &char| lower(&c.to_string()) != c.to_string() || folded(&c.to_string()) != c.to_string();
        for c in every_char().filter(changes) {
            for text in [c.to_string(), format!("a{c}"), format!("{c}\u{301}"), format!("{c}\u{345}")] {
                assert_eq!(lower(&lower(&text)), lower(&text), "{text:?}");
                assert_eq!(folded(&lower(&text)), folded(&text), "{text:?}");
            }
        }
    }
}
