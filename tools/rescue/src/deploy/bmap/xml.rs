//! As much of XML as a bmap needs: elements with attributes and text. What could mean more than it says - entities, document
//! types, CDATA - is refused.

/// More elements than a bmap of [`super::LONGEST`] bytes can have ranges.
const MOST: usize = 1 << 20;

const FOREIGN: &str = "it has document types, CDATA or entities, which a bmap has not";

/// An element, in the order in which they begin.
#[derive(Debug)]
pub struct Element<'t> {
    pub name: &'t str,
    attributes: Vec<(&'t str, &'t str)>,
    /// What is in it before anything else begins.
    pub text: &'t str,
}

impl<'t> Element<'t> {
    /// The value of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&'t str> {
        let found = self.attributes.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| *value)
    }
}

/// All elements of a document.
///
/// # Errors
/// What is wrong with it.
pub fn elements(text: &str) -> Result<Vec<Element<'_>>, String> {
    if text.contains('&') {
        return Err(FOREIGN.to_owned());
    }
    let mut elements: Vec<Element<'_>> = Vec::new();
    let mut open: Vec<&str> = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find('<') {
        let tag = &rest[start..];
        if let Some(comment) = tag.strip_prefix("<!--") {
            rest = comment.split_once("-->").ok_or("a comment without an end")?.1;
            continue;
        }
        if let Some(instruction) = tag.strip_prefix("<?") {
            rest = instruction
                .split_once("?>")
                .ok_or("an instruction without an end")?
                .1;
            continue;
        }
        let (inside, after) = tag[1..].split_once('>').ok_or("a tag without an end")?;
        rest = after;
        if let Some(name) = inside.strip_prefix('/') {
            if open.pop() != Some(name.trim()) {
                return Err(format!("</{}> ends nothing that began", name.trim()));
            }
            continue;
        }
        if inside.starts_with('!') {
            return Err(FOREIGN.to_owned());
        }
        let (inside, ends) = match inside.strip_suffix('/') {
            Some(inside) => (inside, true),
            None => (inside, false),
        };
        let mut element = element(inside)?;
        if elements.len() >= MOST || (open.is_empty() && !elements.is_empty()) {
            return Err("it has more than a bmap can have".to_owned());
        }
        if !ends {
            open.push(element.name);
            element.text = after.split('<').next().unwrap_or_default();
        }
        elements.push(element);
    }
    match open.last() {
        Some(name) => Err(format!("<{name}> does not end: it is cut")),
        None if elements.is_empty() => Err("it is not XML".to_owned()),
        None => Ok(elements),
    }
}

/// `Range chksum="…"`
fn element(inside: &str) -> Result<Element<'_>, String> {
    let name_end = inside.find(char::is_whitespace).unwrap_or(inside.len());
    let (name, mut rest) = inside.split_at(name_end);
    if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || "-_.:".contains(c)) {
        return Err("a tag without a name".to_owned());
    }
    let mut attributes = Vec::new();
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            break;
        }
        let wrong = || format!("<{name}> has an attribute that is none");
        let (key, after) = rest.split_once('=').ok_or_else(wrong)?;
        let after = after.trim_start();
        let quote = after
            .chars()
            .next()
            .filter(|c| "\"'".contains(*c))
            .ok_or_else(wrong)?;
        let (value, after) = after[1..].split_once(quote).ok_or_else(wrong)?;
        attributes.push((key.trim(), value));
        rest = after;
    }
    Ok(Element {
        name,
        attributes,
        text: "",
    })
}
