//! An XML answer as JSON: elements are members, `<item>` and `<member>` make a list, a name that comes again makes a list of
//! its values, text is text, what is empty is `null`. The outermost element, and the one that is named `…Result` in it, are
//! left out.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use xmlparser::{ElementEnd, Token, Tokenizer};

/// An answer is cut off, or no XML at all.
#[derive(Debug, thiserror::Error)]
#[error("the answer is no whole XML document")]
pub(crate) struct Broken;

/// An element that is still open.
#[derive(Default)]
struct Open {
    name: String,
    members: Vec<(String, Value)>,
    text: String,
}

impl Open {
    fn close(self) -> (String, Value) {
        let is_item = |name: &String| name == "item" || name == "member";
        let value = if self.members.is_empty() {
            if self.text.trim().is_empty() { Value::Null } else { Value::String(self.text) }
        } else if self.members.iter().all(|(name, _)| is_item(name)) {
            self.members.into_iter().map(|(_, value)| value).collect()
        } else {
            Value::Object(by_name(self.members))
        };
        (self.name, value)
    }
}

/// RDS lists `<DBInstances><DBInstance>…</DBInstance><DBInstance>…`: one is a member, several are a list.
fn by_name(members: Vec<(String, Value)>) -> Map<String, Value> {
    let mut named: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (name, value) in members {
        named.entry(name).or_default().push(value);
    }
    let one = |mut values: Vec<Value>| if values.len() == 1 { values.remove(0) } else { Value::Array(values) };
    named.into_iter().map(|(name, values)| (name, one(values))).collect()
}

/// What an answer says.
///
/// # Errors
/// When it is no XML.
pub(crate) fn read(text: &str) -> Result<Value, Broken> {
    let mut open = vec![Open::default()];
    for token in Tokenizer::from(text) {
        match token.map_err(|_| Broken)? {
            Token::ElementStart { local, .. } => {
                open.push(Open { name: local.as_str().to_owned(), ..Open::default() });
            }
            Token::Text { text } => {
                if let Some(element) = open.last_mut() {
                    element.text.push_str(&unescaped(text.as_str()));
                }
            }
            Token::Cdata { text, .. } => {
                if let Some(element) = open.last_mut() {
                    element.text.push_str(text.as_str());
                }
            }
            Token::ElementEnd { end: ElementEnd::Close(..) | ElementEnd::Empty, .. } => {
                if let Some(element) = open.pop().filter(|_| !open.is_empty())
                    && let Some(parent) = open.last_mut()
                {
                    parent.members.push(element.close());
                }
            }
            _ => {}
        }
    }
    if open.len() != 1 {
        return Err(Broken);
    }
    let root = open.into_iter().next().unwrap_or_default().members.into_iter().next();
    let (_, mut answer) = root.unwrap_or_default();
    let result = answer.as_object_mut().and_then(|map| {
        let name = map.keys().find(|name| name.ends_with("Result")).cloned()?;
        map.remove(&name)
    });
    Ok(result.unwrap_or(answer))
}

/// With the five entities of XML, and characters by number, resolved.
pub(crate) fn unescaped(text: &str) -> String {
    let mut whole = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        whole.push_str(before);
        let Some((entity, behind)) = after.split_once(';') else {
            rest = &rest[before.len()..];
            break;
        };
        let number = entity.strip_prefix('#').and_then(|number| match number.strip_prefix('x') {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None => number.parse().ok(),
        });
        let character = match entity {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            _ => number.and_then(char::from_u32),
        };
        whole.extend(character);
        rest = behind;
    }
    whole.push_str(rest);
    whole
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn elements_are_members_and_items_make_lists() {
        let text = r#"<?xml version="1.0"?>
            <DescribeThingsResponse xmlns="http://ec2.amazonaws.com/doc/">
              <DescribeThingsResult><Things><member><Name>a &amp; b &#x41;</Name><On>true</On></member><member/></Things>
              <Tags/><Only><item>x</item></Only></DescribeThingsResult>
            </DescribeThingsResponse>"#;
        let read = read(text).unwrap();
        let things = json!([{ "Name": "a & b A", "On": "true" }, null]);
        assert_eq!(read, json!({ "Things": things, "Tags": null, "Only": ["x"] }));
    }

    #[test]
    fn a_name_that_comes_again_makes_a_list() {
        let text =
            "<A><Groups><Group><Id>1</Id></Group><Group><Id>2</Id></Group></Groups><Tags><Tag>x</Tag></Tags></A>";
        let groups = json!({ "Group": [{ "Id": "1" }, { "Id": "2" }] });
        assert_eq!(read(text).unwrap(), json!({ "Groups": groups, "Tags": { "Tag": "x" } }));
    }

    #[test]
    fn an_element_that_comes_several_times_is_a_list() {
        let read = |values: &str| read(&format!("<R><Values>{values}</Values></R>")).unwrap();
        assert_eq!(read("<Value>a</Value>"), json!({ "Values": { "Value": "a" } }));
        assert_eq!(read("<Value>a</Value><Value>b</Value>"), json!({ "Values": { "Value": ["a", "b"] } }));
    }

    #[test]
    fn what_is_no_xml_is_an_error() {
        for text in ["<a><b", "<a><b></b>", "{}<", "<a></a></a>"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_lone_ampersand_stays() {
        assert_eq!(unescaped("a & b"), "a & b");
        assert_eq!(unescaped("&lt;&apos;&gt;"), "<'>");
    }
}
