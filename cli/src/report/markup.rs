//! HTML and SVG as values: names are constants of this program, and everything else is escaped. There is no other way in.

use std::fmt::Write as _;

/// A piece of a page.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Markup(String);

/// Attributes, each by its constant name.
pub(crate) type Attributes<'a> = &'a [(&'static str, &'a str)];

impl Markup {
    /// Nothing.
    pub(crate) const fn none() -> Self {
        Self(String::new())
    }

    /// A constant of this program, such as a style sheet.
    pub(crate) fn constant(text: &'static str) -> Self {
        Self(text.to_owned())
    }

    pub(crate) fn into_string(self) -> String {
        self.0
    }

    /// The pieces one after the other.
    pub(crate) fn all(pieces: impl IntoIterator<Item = Self>) -> Self {
        Self(pieces.into_iter().map(|piece| piece.0).collect())
    }
}

/// Text, escaped; what would steer a reader or turn the reading direction is replaced.
pub(crate) fn text(text: &str) -> Markup {
    let mut escaped = String::with_capacity(text.len());
    push_escaped(&mut escaped, text);
    Markup(escaped)
}

/// An element with what is in it.
pub(crate) fn element(
    name: &'static str,
    attributes: Attributes<'_>,
    children: impl IntoIterator<Item = Markup>,
) -> Markup {
    let mut html = opening(name, attributes);
    html.push('>');
    for child in children {
        html.push_str(&child.0);
    }
    // Writing to a string does not fail.
    let _ = write!(html, "</{name}>");
    Markup(html)
}

/// An element that can have nothing in it.
pub(crate) fn void(name: &'static str, attributes: Attributes<'_>) -> Markup {
    let mut html = opening(name, attributes);
    html.push_str("/>");
    Markup(html)
}

/// An element with text in it.
pub(crate) fn with_text(name: &'static str, attributes: Attributes<'_>, inner: &str) -> Markup {
    element(name, attributes, [text(inner)])
}

fn opening(name: &'static str, attributes: Attributes<'_>) -> String {
    let mut html = format!("<{name}");
    for (name, value) in attributes {
        let _ = write!(html, " {name}=\"");
        push_escaped(&mut html, value);
        html.push('"');
    }
    html
}

fn push_escaped(into: &mut String, text: &str) {
    for letter in text.chars() {
        match letter {
            '&' => into.push_str("&amp;"),
            '<' => into.push_str("&lt;"),
            '>' => into.push_str("&gt;"),
            '"' => into.push_str("&quot;"),
            '\'' => into.push_str("&#39;"),
            '\n' => into.push('\n'),
            letter if letter.is_control() => into.push(char::REPLACEMENT_CHARACTER),
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => {
                into.push(char::REPLACEMENT_CHARACTER);
            }
            letter => into.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_would_end_a_text_or_an_attribute_is_escaped() {
        let html = element("p", &[("title", "\"><script>")], [text("</p><b>'&\u{202e}\u{0}")]).into_string();
        assert_eq!(html, "<p title=\"&quot;&gt;&lt;script&gt;\">&lt;/p&gt;&lt;b&gt;&#39;&amp;\u{fffd}\u{fffd}</p>");
    }

    proptest! {
        #[test]
        fn no_text_leaves_its_place(hostile in any::<String>()) {
            let html = element("a", &[("id", &hostile)], [text(&hostile)]).into_string();
            prop_assert_eq!(html.matches('<').count(), 2);
            prop_assert_eq!(html.matches('>').count(), 2);
            prop_assert_eq!(html.matches('"').count(), 2);
            prop_assert!(!html.contains('\''));
        }
    }
}
