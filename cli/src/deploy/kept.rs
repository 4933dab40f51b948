//! What somebody set on a stack or stack set outside of the settings file: what of it outlives an update. Pure.
//!
//! CloudFormation gives a parameter that an update does not name its default. So what the settings say nothing of is
//! named with its previous value, whatever that is: whether somebody chose it cannot be told.

use std::collections::BTreeMap;
use std::fmt;

use redress_lab::template::Template;
use serde::Serialize;

/// What a template says of a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Declared {
    pub(crate) default: Option<String>,
    /// CloudFormation shows its value to nobody (`NoEcho`).
    pub(crate) is_secret: bool,
}

/// A parameter that keeps a value which is not its template's default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Kept {
    /// `stack redress-administrator`, `stack set redress-member`.
    pub(crate) name: String,
    pub(crate) parameter: String,
    /// Nothing of a secret.
    pub(crate) value: Option<String>,
    pub(crate) default: Option<String>,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, parameter, value, default } = self;
        match value {
            Some(value) => write!(f, "{parameter}={value}")?,
            None => write!(f, "{parameter} (a secret, so not shown)")?,
        }
        write!(f, ", set outside redress.toml on {name}")?;
        match default.as_deref() {
            Some("") => f.write_str("; empty by default"),
            Some(default) => write!(f, "; {default} by default"),
            None => Ok(()),
        }
    }
}

/// The parameters of a template.
pub(crate) fn declared(template: &Template) -> BTreeMap<String, Declared> {
    let defaults: BTreeMap<&str, String> = template.defaults().collect();
    let read = template.parameters().map(|name| {
        let declared = Declared { default: defaults.get(name).cloned(), is_secret: template.hides(name) };
        (name.to_owned(), declared)
    });
    read.collect()
}

/// The parameters that keep their values: deployed, not given by the settings, and still declared.
pub(crate) fn names<'a>(
    declared: &'a BTreeMap<String, Declared>,
    given: &BTreeMap<String, String>,
    deployed: &BTreeMap<String, String>,
) -> Vec<&'a str> {
    let all = declared.keys().map(String::as_str);
    all.filter(|name| deployed.contains_key(*name) && !given.contains_key(*name)).collect()
}

/// What people are told of those: which are not at the template's default. `name` is the stack's or stack set's.
pub(crate) fn told(
    name: &str,
    declared: &BTreeMap<String, Declared>,
    given: &BTreeMap<String, String>,
    deployed: &BTreeMap<String, String>,
) -> Vec<Kept> {
    let told = names(declared, given, deployed).into_iter().filter_map(|parameter| {
        let (Declared { default, is_secret }, value) = (declared.get(parameter)?, deployed.get(parameter)?);
        let (value, default) = if *is_secret { (None, None) } else { (Some(value.clone()), default.clone()) };
        let is_default = value.is_some() && value == default;
        (!is_default).then(|| Kept { name: name.to_owned(), parameter: parameter.to_owned(), value, default })
    });
    told.collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn plain(default: &str) -> Declared {
        Declared { default: Some(default.to_owned()), is_secret: false }
    }

    fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_template_says_which_parameters_have_a_default_and_which_are_secret() {
        let text = "{Parameters: {A: {Type: Number, Default: 90}, B: {Type: String, NoEcho: true}}, Resources: {}}";
        let declared = declared(&Template::parse(text).unwrap());
        assert_eq!(declared["A"], plain("90"));
        assert_eq!(declared["B"], Declared { default: None, is_secret: true });
        assert_eq!(declared.len(), 2);
    }

    #[test]
    fn people_are_told_what_is_not_the_default_and_never_a_secret() {
        let secret = Declared { default: Some("none".to_owned()), is_secret: true };
        let declared = BTreeMap::from([
            ("Given".to_owned(), plain("1")),
            ("New".to_owned(), plain("1")),
            ("OperatorsApprove".to_owned(), plain("true")),
            ("Secret".to_owned(), secret),
            ("Tracing".to_owned(), plain("PassThrough")),
        ]);
        let given = values(&[("Given", "2")]);
        let deployed = values(&[
            ("Given", "3"),
            ("Gone", "x"),
            ("OperatorsApprove", "false"),
            ("Secret", "hunter2"),
            ("Tracing", "PassThrough"),
        ]);
        assert_eq!(names(&declared, &given, &deployed), ["OperatorsApprove", "Secret", "Tracing"]);
        let told: Vec<String> = told("stack s", &declared, &given, &deployed).iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "OperatorsApprove=false, set outside redress.toml on stack s; true by default",
                "Secret (a secret, so not shown), set outside redress.toml on stack s",
            ]
        );
    }

    proptest! {
        #[test]
        fn what_is_kept_is_exactly_what_was_set_and_is_not_configured_and_is_still_declared(
            declares in prop::collection::btree_set("[A-D]{1,2}", 0..12),
            gives in prop::collection::btree_set("[A-D]{1,2}", 0..12),
            deployed in prop::collection::btree_map("[A-D]{1,2}", "[a-c]?", 0..12),
        ) {
            let declared = declares.iter().map(|name| (name.clone(), plain("a"))).collect();
            let given = gives.iter().map(|name| (name.clone(), "a".to_owned())).collect();
            let set: BTreeSet<String> = deployed.keys().cloned().collect();
            let free = set.intersection(&declares).filter(|name| !gives.contains(*name));
            let wanted: Vec<String> = free.cloned().collect();
            prop_assert_eq!(names(&declared, &given, &deployed), wanted);
            for kept in told("stack s", &declared, &given, &deployed) {
                prop_assert!(kept.value.as_deref() != Some("a"), "{} is at its default", kept.parameter);
            }
        }
    }
}
