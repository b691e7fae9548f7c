//! XML as recorders write it, and what they are sent.
//!
//! Namespaces differ from device to device, and prefixes are nobody's business: elements go by their local names.

use quick_xml::Reader;
use quick_xml::escape::{escape, resolve_xml_entity};
use quick_xml::events::{BytesRef, BytesStart, Event};

/// Elements within each other, at most: answers have seven.
const DEEPEST: usize = 32;
/// Elements in a document, at most: a page of 500 matches has about 8,000.
const MOST: usize = 100_000;

/// Why a text is no document.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum InvalidXml {
    /// It is not XML.
    #[error("it is not XML: {0}")]
    Syntax(String),
    /// It is XML with what we refuse.
    #[error("its XML has {0}")]
    Refused(&'static str),
}

/// An element and what is in it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Element {
    /// Its name without a prefix.
    pub(super) name: String,
    text: String,
    children: Vec<Element>,
}

impl Element {
    /// Reads a document: what its root is.
    pub(super) fn read(text: &[u8]) -> Result<Self, InvalidXml> {
        // A camera's name in another encoding must not hide all the others.
        let text = String::from_utf8_lossy(text);
        let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}').trim_start());
        let mut builder = Builder::default();
        while builder.take(reader.read_event().map_err(syntax)?)? {}
        match builder.root {
            Some(root) if builder.open.is_empty() => Ok(root),
            Some(_) | None => Err(InvalidXml::Syntax("it does not end".into())),
        }
    }

    /// All children of that name.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The first element that this path leads to.
    pub(super) fn at(&self, path: &[&str]) -> Option<&Self> {
        match path {
            [] => Some(self),
            [name, rest @ ..] => self.all(name).find_map(|child| child.at(rest)),
        }
    }

    /// The text at the end of a path, without the space around it; `None` where there is no text.
    pub(super) fn text(&self, path: &[&str]) -> Option<&str> {
        self.at(path).map(|element| element.text.trim()).filter(|text| !text.is_empty())
    }

    /// The number at the end of a path.
    pub(super) fn number<N: std::str::FromStr>(&self, path: &[&str]) -> Option<N> {
        self.text(path)?.parse().ok()
    }
}

#[derive(Default)]
struct Builder {
    open: Vec<Element>,
    root: Option<Element>,
    count: usize,
}

impl Builder {
    /// Takes what comes next; whether more does.
    fn take(&mut self, event: Event<'_>) -> Result<bool, InvalidXml> {
        match event {
            Event::Start(start) => self.begin(&start)?,
            Event::Empty(start) => {
                self.begin(&start)?;
                self.end()?;
            }
            Event::End(_) => self.end()?,
            Event::Text(piece) => self.add(&piece.decode().map_err(syntax)?),
            Event::CData(piece) => self.add(&piece.decode().map_err(syntax)?),
            Event::GeneralRef(name) => self.refer(&name)?,
            Event::DocType(_) => return Err(InvalidXml::Refused("a document type")),
            Event::Decl(_) | Event::Comment(_) | Event::PI(_) => {}
            Event::Eof => return Ok(false),
        }
        Ok(true)
    }

    fn begin(&mut self, start: &BytesStart<'_>) -> Result<(), InvalidXml> {
        self.count += 1;
        if self.count > MOST || self.open.len() >= DEEPEST {
            return Err(InvalidXml::Refused("too many elements"));
        }
        if self.root.is_some() {
            return Err(InvalidXml::Syntax("it has two roots".into()));
        }
        let name = String::from_utf8_lossy(start.local_name().into_inner()).into_owned();
        self.open.push(Element { name, ..Element::default() });
        Ok(())
    }

    fn end(&mut self) -> Result<(), InvalidXml> {
        let element = self.open.pop().ok_or_else(|| InvalidXml::Syntax("an element ends that did not begin".into()))?;
        match self.open.last_mut() {
            Some(parent) => parent.children.push(element),
            None => self.root = Some(element),
        }
        Ok(())
    }

    fn refer(&mut self, name: &BytesRef<'_>) -> Result<(), InvalidXml> {
        if let Some(character) = name.resolve_char_ref().map_err(syntax)? {
            self.add(character.encode_utf8(&mut [0; 4]));
            return Ok(());
        }
        let name = name.decode().map_err(syntax)?;
        let known = resolve_xml_entity(&name).ok_or(InvalidXml::Refused("an entity of its own"))?;
        self.add(known);
        Ok(())
    }

    fn add(&mut self, piece: &str) {
        if let Some(element) = self.open.last_mut() {
            element.text.push_str(piece);
        }
    }
}

fn syntax(error: impl std::fmt::Display) -> InvalidXml {
    InvalidXml::Syntax(error.to_string())
}

/// An element with text in it.
pub(super) fn leaf(name: &str, text: &str) -> String {
    format!("<{name}>{}</{name}>", escape(text))
}

/// An element with others in it.
pub(super) fn around(name: &str, within: &str) -> String {
    format!("<{name}>{within}</{name}>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_read_by_local_names_whatever_is_around_them() {
        for text in [
            "<?xml version = \"1.0\" encoding=\"UTF-8\" ?><a version='2.0' xmlns='urn:x'><b>x&amp;y&#33;</b><b/></a>",
            "\u{feff}\r\n<p:a xmlns:p='u'><!-- - --><p:b size=\"14\">\n <![CDATA[x&y!]]>\n</p:b><q:b>  </q:b></p:a>\n",
        ] {
            let root = Element::read(text.as_bytes()).unwrap();
            assert_eq!((root.name.as_str(), root.text(&["b"])), ("a", Some("x&y!")), "{text}");
            assert_eq!(root.all("b").count(), 2);
            assert_eq!((root.text(&[]), root.text(&["c"]), root.number::<u32>(&["b"])), (None, None, None));
        }
        assert_eq!(Element::read(b"<a><b> 007 </b></a>").unwrap().number(&["b"]), Some(7_u32));
    }

    #[test]
    fn what_is_no_xml_or_too_much_of_it_is_refused() {
        for text in ["", "x", "<a>", "<a></b>", "</a>", "<a/><b/>", "{\"a\":1}", "<a>&#xFFFFFF;</a>"] {
            assert!(matches!(Element::read(text.as_bytes()), Err(InvalidXml::Syntax(_))), "{text}");
        }
        for text in [
            "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>".to_owned(),
            "<!DOCTYPE html><html></html>".to_owned(),
            "<a>&b;</a>".to_owned(),
            "<a>".repeat(DEEPEST + 1),
            format!("<a>{}</a>", "<b/>".repeat(MOST)),
        ] {
            assert!(matches!(Element::read(text.as_bytes()), Err(InvalidXml::Refused(_))), "{:.60}", text);
        }
        assert_eq!(Element::read(b"<a>G\xffte</a>").unwrap().text(&[]), Some("G\u{fffd}te"));
    }

    #[test]
    fn what_is_written_is_escaped_once() {
        let uri = "rtsp://h/?a=1&b=<2>&c='\"";
        let text = around("r", &leaf("u", uri));
        assert_eq!(Element::read(text.as_bytes()).unwrap().text(&["u"]), Some(uri));
    }
}
