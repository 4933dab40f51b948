//! An XML document of which a few elements are replaced, and all else stays as it is, byte for byte.

use std::ops::Range;

use xmlparser::{ElementEnd, Token, Tokenizer};

use crate::wire::xml::unescaped;

/// A document, and where its elements are in it.
#[derive(Debug)]
pub(super) struct Document<'a> {
    text: &'a str,
    /// In the order in which they begin; the outermost first.
    elements: Vec<Element>,
}

/// An element.
#[derive(Debug)]
pub(super) struct Element {
    /// Where it is in the list.
    index: usize,
    parent: Option<usize>,
    /// As it is written, with a prefix if it has one.
    name: String,
    whole: Range<usize>,
    /// What is between its tags; none when it has only one tag.
    inner: Option<Range<usize>>,
}

/// A part of the document, and what takes its place.
pub(super) type Edit = (Range<usize>, String);

impl<'a> Document<'a> {
    /// `None` when the text is no whole XML document.
    pub(super) fn read(text: &'a str) -> Option<Self> {
        let mut elements: Vec<Element> = Vec::new();
        let mut open: Vec<usize> = Vec::new();
        for token in Tokenizer::from(text) {
            match token.ok()? {
                Token::ElementStart { span, prefix, local } => {
                    let name = match prefix.as_str() {
                        "" => local.as_str().to_owned(),
                        prefix => format!("{prefix}:{local}"),
                    };
                    let parent = open.last().copied();
                    // Of several outermost elements none is the document.
                    if parent.is_none() && !elements.is_empty() {
                        return None;
                    }
                    let index = elements.len();
                    open.push(index);
                    elements.push(Element { index, parent, name, whole: span.start()..span.end(), inner: None });
                }
                Token::ElementEnd { end, span } => match end {
                    ElementEnd::Open => {
                        let element = elements.get_mut(*open.last()?)?;
                        element.inner = Some(span.end()..span.end());
                    }
                    ElementEnd::Empty => elements.get_mut(open.pop()?)?.whole.end = span.end(),
                    ElementEnd::Close(prefix, local) => {
                        let element = elements.get_mut(open.pop()?)?;
                        let (own_prefix, own) = element.name.split_once(':').unwrap_or(("", element.name.as_str()));
                        if (own_prefix, own) != (prefix.as_str(), local.as_str()) {
                            return None;
                        }
                        element.inner.as_mut()?.end = span.start();
                        element.whole.end = span.end();
                    }
                },
                _ => {}
            }
        }
        (open.is_empty() && !elements.is_empty()).then_some(Self { text, elements })
    }

    pub(super) fn root(&self) -> &Element {
        &self.elements[0]
    }

    pub(super) fn children(&self, of: &Element) -> impl Iterator<Item = &Element> {
        let parent = of.index;
        self.elements.iter().filter(move |element| element.parent == Some(parent))
    }

    /// The first child of a name, whatever its prefix.
    pub(super) fn child(&self, of: &Element, name: &str) -> Option<&Element> {
        self.children(of).find(|element| element.name.rsplit(':').next() == Some(name))
    }

    /// What it says; empty when it says nothing.
    pub(super) fn text(&self, of: &Element) -> String {
        of.inner.clone().and_then(|inner| self.text.get(inner)).map(unescaped).unwrap_or_default()
    }

    /// Its source, with its tags.
    pub(super) fn source(&self, of: &Element) -> &'a str {
        self.text.get(of.whole.clone()).unwrap_or_default()
    }

    /// It says this.
    pub(super) fn filled(&self, of: &Element, text: &str) -> Edit {
        let text = escaped(text);
        match &of.inner {
            Some(inner) => (inner.clone(), text),
            None => (of.whole.clone(), format!("<{}>{text}</{}>", of.name, of.name)),
        }
    }

    /// This source takes its place.
    pub(super) fn replaced(&self, of: &Element, source: &str) -> Edit {
        (of.whole.clone(), source.to_owned())
    }

    /// A new element before it.
    pub(super) fn before(&self, of: &Element, name: &str, text: &str) -> Edit {
        let at = of.whole.start;
        let name = match of.name.split_once(':') {
            Some((prefix, _)) => format!("{prefix}:{name}"),
            None => name.to_owned(),
        };
        (at..at, format!("<{name}>{}</{name}>", escaped(text)))
    }

    /// The document with these parts replaced. `None` when two of them overlap, or the result is no XML.
    pub(super) fn edited(&self, mut edits: Vec<Edit>) -> Option<String> {
        edits.sort_by_key(|(range, _)| range.start);
        let mut edited = String::with_capacity(self.text.len());
        let mut done = 0;
        for (range, text) in edits {
            edited.push_str(self.text.get(done..range.start)?);
            edited.push_str(&text);
            done = range.end;
        }
        edited.push_str(self.text.get(done..)?);
        Document::read(&edited)?;
        Some(edited)
    }
}

/// For the text of an element.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_element_is_replaced_and_the_rest_stays_byte_for_byte() {
        let text = "<?xml version=\"1.0\"?>\n<a xmlns=\"n\" >\n <b  x='1'>o&amp;p</b><c/><!-- d --><d><![CDATA[<e>]]></d>\n</a>\n";
        let document = Document::read(text).unwrap();
        let child = |name: &str| document.child(document.root(), name).unwrap();
        assert_eq!(document.text(child("b")), "o&p");
        let edited =
            document.edited(vec![document.filled(child("c"), "<3"), document.filled(child("b"), "q")]).unwrap();
        assert_eq!(edited, text.replace("o&amp;p", "q").replace("<c/>", "<c>&lt;3</c>"));
        assert_eq!(document.edited(vec![]).unwrap(), text);
    }

    #[test]
    fn what_is_no_document_is_none() {
        for text in ["", "x", "<a>", "<a><b></a></b>", "<a/><b/>", "<a></a></a>"] {
            assert!(Document::read(text).is_none(), "{text}");
        }
    }

    proptest! {
        /// Whatever stands around an element, setting it changes nothing else, and setting it back gives the same bytes.
        #[test]
        fn an_edit_and_its_way_back_are_the_same_bytes(
            before in "[ a-z\n]{0,9}(<x y='[a-z]{0,3}'>[a-z &&[^&]]{0,5}</x>|<z/>|<!-- [a-z]{0,5} -->){0,4}",
            after in "(<x>&amp;[a-z]{0,5}</x>|<w:z xmlns:w='u'/>|<t/>){0,4}[ \n]{0,3}",
            old in "[a-z]{1,8}",
            new in "[ -~]{1,12}",
        ) {
            let text = format!("<r>{before}<t0>{old}</t0>{after}</r>\n");
            let document = Document::read(&text).unwrap();
            let edited = document.edited(vec![document.filled(document.child(document.root(), "t0").unwrap(), &new)]).unwrap();
            let again = Document::read(&edited).unwrap();
            let element = again.child(again.root(), "t0").unwrap();
            prop_assert_eq!(again.text(element), new);
            prop_assert_eq!(again.edited(vec![again.filled(element, &old)]).unwrap(), text);
        }
    }
}
