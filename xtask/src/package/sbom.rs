//! The bill of materials, as CycloneDX 1.6: each function by the hash of its zip, and every crate that is in one. The same
//! input gives the same text: it has no serial number, and its time is the release's.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::crates::{Crate, Id};

/// The functions: by name, the package and the SHA-256 of the zip.
pub(super) type Zips = BTreeMap<String, (String, String)>;

/// The bill as text.
pub(super) fn bill(
    version: &str,
    rust: &str,
    epoch: i64,
    zips: &Zips,
    crates: &BTreeMap<Id, Crate>,
) -> Result<String, String> {
    let time = jiff::Timestamp::from_second(epoch).map_err(|error| format!("{epoch} is no time: {error}"))?;
    let standard = format!("rust-std@{rust}");
    let mut components = Vec::new();
    let mut dependencies =
        vec![json!({ "ref": "redress", "dependsOn": zips.keys().map(|name| function(name)).collect::<Vec<_>>() })];
    for (name, (package, sha256)) in zips {
        components.push(json!({
            "type": "application", "bom-ref": function(name), "name": function(name), "version": version,
            "hashes": [{ "alg": "SHA-256", "content": sha256 }],
            "licenses": [{ "expression": "Apache-2.0" }],
        }));
        let crates = crates.keys().filter(|(name, _)| name == package).map(reference);
        dependencies.push(json!({
            "ref": function(name), "dependsOn": crates.chain([standard.clone()]).collect::<Vec<_>>(),
        }));
    }
    components.push(json!({
        "type": "library", "bom-ref": standard, "name": "rust-std", "version": rust,
        "description": "The Rust standard library",
        "licenses": [{ "expression": "MIT OR Apache-2.0" }],
    }));
    for (id, one) in crates {
        components.push(component(id, one));
        dependencies
            .push(json!({ "ref": reference(id), "dependsOn": one.needs.iter().map(reference).collect::<Vec<_>>() }));
    }
    let bill = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": time.to_string(),
            "component": {
                "type": "application", "bom-ref": "redress", "name": "redress", "version": version,
                "licenses": [{ "expression": "Apache-2.0" }],
            },
        },
        "components": components,
        "dependencies": dependencies,
    });
    Ok(format!("{bill:#}\n"))
}

fn function(name: &str) -> String {
    format!("redress-{name}")
}

/// `serde@1.0.0`; ours and the functions have names that no other has.
fn reference((name, version): &Id) -> String {
    format!("{name}@{version}")
}

fn component(id: &Id, one: &Crate) -> Value {
    let (name, version) = id;
    let mut component = json!({ "type": "library", "bom-ref": reference(id), "name": name, "version": version });
    if !one.licence.is_empty() {
        component["licenses"] = json!([{ "expression": one.licence }]);
    }
    // Ours are in no registry: a name there would be somebody else's.
    if let Some(sha256) = &one.sha256 {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": sha256 }]);
        component["purl"] = format!("pkg:cargo/{name}@{}", version.replace('+', "%2B")).into();
    }
    component
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_function_and_crate_is_there_once_and_every_reference_leads_somewhere() {
        let id = |name: &str, version: &str| (name.to_owned(), version.to_owned());
        let crates = BTreeMap::from([
            (id("redress-member", "0.1.0"), Crate { needs: BTreeSet::from([id("b", "1.0.0+x")]), ..Crate::default() }),
            (id("b", "1.0.0+x"), Crate { licence: "MIT".into(), sha256: Some("ab".repeat(32)), ..Crate::default() }),
        ]);
        let zips = Zips::from([("recorder".to_owned(), ("redress-member".to_owned(), "cd".repeat(32)))]);
        let bill: Value =
            serde_json::from_str(&bill("0.1.0", "1.95.0", 1_767_225_600, &zips, &crates).unwrap()).unwrap();
        assert_eq!(bill["metadata"]["timestamp"], "2026-01-01T00:00:00Z");
        let references = |list: &str, field: &str| -> Vec<String> {
            let items = bill[list].as_array().unwrap().iter();
            items.map(|item| item[field].as_str().unwrap().to_owned()).collect()
        };
        let mut there = references("components", "bom-ref");
        there.push("redress".to_owned());
        let unique: BTreeSet<&String> = there.iter().collect();
        assert_eq!(unique.len(), there.len());
        for dependency in bill["dependencies"].as_array().unwrap() {
            let needed = dependency["dependsOn"].as_array().unwrap().iter();
            assert!(needed.chain([&dependency["ref"]]).all(|one| there.contains(&one.as_str().unwrap().to_owned())));
        }
        let of = |name: &str| bill["components"].as_array().unwrap().iter().find(|one| one["name"] == name).unwrap();
        assert_eq!(of("b")["purl"], "pkg:cargo/b@1.0.0%2Bx");
        assert_eq!(of("redress-recorder")["hashes"][0]["content"], "cd".repeat(32));
        assert!(of("redress-member").get("purl").is_none());
    }
}
