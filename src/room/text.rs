//! What people type, made safe to show: NFC, no control, bidi or zero-width characters.

use unicode_normalization::UnicodeNormalization;

/// Characters in one comment.
pub const COMMENT_CHARS_MAX: usize = 200;
/// Characters in a display name.
pub const NAME_CHARS_MAX: usize = 32;

/// The comment as it will be shown; `None` when nothing is left or too much is.
pub fn comment(raw: &str) -> Option<String> {
    // NFC never makes a text longer than three times its bytes; what is far too long is not worth normalising.
    if raw.len() > COMMENT_CHARS_MAX * 16 {
        return None;
    }
    let text = clean(raw);
    (1..=COMMENT_CHARS_MAX).contains(&text.chars().count()).then_some(text)
}

/// A display name, cut to its limit; `None` when nothing is left.
pub fn name(raw: &str) -> Option<String> {
    let text: String = clean(raw).chars().take(NAME_CHARS_MAX).collect();
    let text = text.trim().to_owned();
    (!text.is_empty()).then_some(text)
}

fn clean(raw: &str) -> String {
    let spaced = raw.nfc().map(|c| if matches!(c, '\n' | '\r' | '\t') { ' ' } else { c });
    let kept: String = spaced.filter(|c| !is_unwanted(*c)).collect();
    kept.trim().to_owned()
}

/// Control characters, and the invisible ones that reorder, join or hide text. U+200D stays: emoji are joined by it.
fn is_unwanted(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00AD}' | '\u{061C}' | '\u{180E}' | '\u{200B}'..='\u{200C}' | '\u{200E}'..='\u{200F}'
            | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}'
            | '\u{E0000}'..='\u{E007F}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_loses_what_hides_or_reorders_text() {
        assert_eq!(comment("  好看\u{202E}!\u{200B}\n多少钱 ").as_deref(), Some("好看! 多少钱"));
        assert_eq!(comment("e\u{301}").as_deref(), Some("é"));
        assert_eq!(comment("👩‍👩‍👧").as_deref(), Some("👩‍👩‍👧"));
    }

    #[test]
    fn a_comment_has_one_to_two_hundred_characters() {
        assert_eq!(comment(""), None);
        assert_eq!(comment("\u{200B}\u{200B}"), None);
        assert!(comment(&"买".repeat(200)).is_some());
        assert_eq!(comment(&"买".repeat(201)), None);
        assert_eq!(comment(&"x".repeat(1_000_000)), None);
    }

    #[test]
    fn a_name_is_cut_not_refused() {
        assert_eq!(name(&"a".repeat(90)).map(|n| n.len()), Some(NAME_CHARS_MAX));
        assert_eq!(name("\u{200B}"), None);
    }
}
