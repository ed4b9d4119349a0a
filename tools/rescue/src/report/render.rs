//! A report for people: what is wrong on the first page, then every section, each fact a line.

use super::{Report, Told};
use crate::output;
use serde_json::Value;

/// A list of words is one line up to here.
const WIDE: usize = 100;

/// All of it.
pub fn whole(report: &Report) -> Vec<String> {
    let mut lines = vec![format!(
        "lifeboot {} report, {}",
        report.version,
        output::date(report.made)
    )];
    let status = report.sections.iter().find(|(name, _)| *name == "status");
    let says = status.and_then(|(_, status)| status.get("says"));
    lines.extend(
        says.and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned),
    );
    lines.push(String::new());
    if report.warnings.is_empty() {
        lines.push("Nothing is known to be wrong.".to_owned());
    } else {
        lines.push("What is wrong:".to_owned());
        lines.extend(report.warnings.iter().map(|warning| format!("  - {warning}")));
    }
    lines.push(String::new());
    let names: Vec<&str> = report.sections.iter().map(|(name, _)| *name).collect();
    lines.push(format!("Sections: {}", names.join(", ")));
    for (name, facts) in &report.sections {
        lines.push(String::new());
        lines.push(format!("== {name} =="));
        if is_empty(facts) {
            lines.push("nothing is told".to_owned());
        }
        lines.extend(value(facts, ""));
    }
    lines
}

/// One section.
pub fn section(told: &Told) -> Vec<String> {
    let warnings = told.warnings.iter().map(|warning| format!("! {warning}"));
    warnings.chain(value(&told.facts, "")).collect()
}

/// The lines of a value; what is empty is left out.
fn value(value: &Value, indent: &str) -> Vec<String> {
    match value {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, value)| field(name, value, indent))
            .collect(),
        Value::Array(values) => values.iter().flat_map(|value| item(value, indent)).collect(),
        value => scalar(value)
            .lines()
            .map(|line| format!("{indent}{line}"))
            .collect(),
    }
}

fn field(name: &str, of: &Value, indent: &str) -> Vec<String> {
    if is_empty(of) {
        return Vec::new();
    }
    if let Some(line) = one_line(of) {
        return vec![format!("{indent}{name}: {line}")];
    }
    let mut lines = vec![format!("{indent}{name}:")];
    lines.extend(value(of, &format!("{indent}  ")));
    lines
}

/// An element of a list: an object's facts in one line where all of them are short.
fn item(of: &Value, indent: &str) -> Vec<String> {
    if let Value::Object(fields) = of {
        let short: Option<Vec<String>> = fields
            .iter()
            .filter(|(_, value)| !is_empty(value))
            .map(|(name, value)| one_line(value).map(|line| format!("{name} {line}")))
            .collect();
        if let Some(facts) = short {
            return vec![format!("{indent}{}", facts.join(", "))];
        }
    }
    let inner = format!("{indent}  ");
    let mut lines = value(of, &inner);
    if let Some(first) = lines.first_mut() {
        *first = format!("{indent}- {}", first.trim_start());
    }
    lines
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
        _ => false,
    }
}

/// A value that reads well in one line.
fn one_line(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => (!text.contains('\n')).then(|| text.clone()),
        Value::Array(values) => {
            let words: Option<Vec<String>> = values
                .iter()
                .map(|value| (!value.is_object() && !value.is_array()).then(|| scalar(value)))
                .collect();
            words
                .map(|words| words.join(", "))
                .filter(|line| line.len() <= WIDE && !line.contains('\n'))
        }
        Value::Object(_) => None,
        value => Some(scalar(value)),
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn facts_become_lines_and_what_is_empty_is_left_out() {
        let facts = json!({
            "a": "text", "none": null, "list": ["x", "y"], "flag": true, "deep": {"n": 1, "empty": []},
            "log": "one\ntwo", "disks": [{"device": "/dev/sda", "label": null}, {"device": "/dev/sdb", "on": ["/mnt"]}],
            "nested": [{"name": "n", "steps": [{"s": 1}]}],
        });
        let expected = "\
a: text
deep:
  n: 1
disks:
  device /dev/sda
  device /dev/sdb, on /mnt
flag: yes
list: x, y
log:
  one
  two
nested:
  - name: n
    steps:
      s 1";
        assert_eq!(value(&facts, "").join("\n"), expected);
    }

    #[test]
    fn what_is_wrong_comes_first() {
        let mut report = Report {
            made: 0,
            version: "1",
            warnings: vec!["under-voltage now".to_owned()],
            sections: vec![("status", json!({"says": ["pi: in rescue"]}))],
        };
        let lines = whole(&report);
        assert_eq!(
            lines[..4],
            [
                "lifeboot 1 report, 1970-01-01 00:00:00 UTC",
                "pi: in rescue",
                "",
                "What is wrong:"
            ]
        );
        assert_eq!(lines[4], "  - under-voltage now");
        report.warnings.clear();
        assert_eq!(whole(&report)[3], "Nothing is known to be wrong.");
    }
}
