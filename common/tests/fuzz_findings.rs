//! Fuzz target of the parser: a bounded run with every `cargo test`, as long as one likes with `cargo bolero`.
#![allow(missing_docs, reason = "tests")]

mod support;

use redress_common::finding::parse;

#[test]
fn parse_takes_any_bytes() {
    bolero::check!().with_iterations(20_000).for_each(|body: &[u8]| {
        let _ = parse(body);
    });
}

#[test]
fn parse_takes_any_bytes_put_over_an_event() {
    let fixtures = support::fixtures();
    bolero::check!().with_type::<(u8, u16, Vec<u8>)>().with_iterations(20_000).for_each(|(which, at, bytes)| {
        let mut body = fixtures[usize::from(*which) % fixtures.len()].1.clone();
        let at = usize::from(*at) % body.len();
        let end = (at + bytes.len()).min(body.len());
        body.splice(at..end, bytes.iter().copied());
        let _ = parse(&body);
    });
}
