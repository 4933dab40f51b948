//! Text of others, made safe for a place: one line, bounded, and no markup of that place's.

use base64::Engine as _;

/// What steers a reader's eye instead of being read: marks of writing direction, and characters without width.
const fn steers(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// A text as one line of at most so many characters; a longer one ends in an ellipsis.
#[must_use]
pub(super) fn line(text: &str, most: usize) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() || steers(c) { ' ' } else { c }).collect();
    cut(clean.trim(), most)
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// A text in Slack's mrkdwn: no link, mention or command comes out of it.
#[must_use]
pub(super) fn mrkdwn(text: &str, most: usize) -> String {
    let mut escaped = String::new();
    for c in line(text, most).chars() {
        let next = match c {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            other => {
                escaped.push(other);
                continue;
            }
        };
        escaped.push_str(next);
    }
    escaped
}

/// A text in a journal field of ServiceNow, where `[code]` begins HTML.
#[must_use]
pub(super) fn journal(text: &str) -> String {
    text.replace('[', "(").replace(']', ")")
}

/// A value of a URL's query, or one step of its path.
#[must_use]
pub(super) fn percent(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// HTTP's basic authentication.
#[must_use]
pub(super) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_line_is_one_bounded_line(text in any::<String>(), most in 1usize..200) {
            let line = line(&text, most);
            prop_assert!(line.chars().count() <= most);
            prop_assert!(!line.chars().any(|c| c.is_control() || steers(c)));
        }

        #[test]
        fn no_markup_of_slacks_comes_out_of_a_text(text in "[ -~<>&*_`|!@#]{0,80}") {
            let escaped = mrkdwn(&text, 100);
            prop_assert!(!escaped.contains(['<', '>']), "{}", escaped);
            let bare = escaped.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "");
            prop_assert!(!bare.contains('&'), "{}", escaped);
        }

        #[test]
        fn a_journal_holds_no_code_tag(text in "(\\[code\\]|\\[/CODE\\]|[a-z\\[\\]<>]){0,20}") {
            prop_assert!(!journal(&text).contains(['[', ']']));
        }

        #[test]
        fn what_is_percent_encoded_is_read_back(text in any::<String>()) {
            let encoded = percent(&text);
            prop_assert!(encoded.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%".contains(&b)));
            let mut bytes = Vec::new();
            let mut rest = encoded.as_bytes();
            while let Some((first, tail)) = rest.split_first() {
                if *first == b'%' {
                    let code = std::str::from_utf8(&tail[..2]).unwrap_or_default();
                    bytes.push(u8::from_str_radix(code, 16).unwrap_or_default());
                    rest = &tail[2..];
                } else {
                    bytes.push(*first);
                    rest = tail;
                }
            }
            prop_assert_eq!(String::from_utf8(bytes).ok(), Some(text));
        }
    }
}
