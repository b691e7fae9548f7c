//! XML as recorders read and write it.

use anyhow::{Context as _, bail, ensure};
use quick_xml::Reader;
use quick_xml::escape::{escape, resolve_xml_entity};
use quick_xml::events::{BytesStart, Event};

/// What a request's body says. Names are without their prefix, text is without the space around it.
#[derive(Debug)]
pub(super) struct Document {
    /// Whether it begins with `<?xml`.
    pub(super) declared: bool,
    pub(super) root: Element,
}

/// An element and what is in it.
#[derive(Debug, Default)]
pub(super) struct Element {
    pub(super) name: String,
    /// Whether it names a namespace.
    pub(super) namespaced: bool,
    pub(super) text: String,
    children: Vec<Element>,
}

impl Element {
    /// The first child of that name.
    pub(super) fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.name == name)
    }

    /// All children of that name.
    pub(super) fn children(&self, name: &str) -> impl Iterator<Item = &Element> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The text of the first element that this path leads to.
    pub(super) fn text(&self, path: &[&str]) -> Option<&str> {
        match path {
            [] => Some(&self.text),
            [name, rest @ ..] => self.child(name)?.text(rest),
        }
    }
}

impl Document {
    /// Reads a document of a few levels. Entities of one's own making are refused.
    pub(super) fn read(text: &[u8]) -> anyhow::Result<Document> {
        let text = std::str::from_utf8(text).context("it is not UTF-8")?;
        let mut reader = Reader::from_str(text);
        let (mut declared, mut open, mut root) = (false, Vec::<Element>::new(), None);
        loop {
            match reader.read_event()? {
                Event::Decl(_) => declared = true,
                Event::Start(start) => open.push(element(&start)?),
                Event::Empty(start) => close(element(&start)?, &mut open, &mut root)?,
                Event::End(_) => {
                    let element = open.pop().context("an element ends that did not begin")?;
                    close(element, &mut open, &mut root)?;
                }
                Event::Text(piece) => add(&piece.decode()?, &mut open),
                Event::CData(piece) => add(&piece.decode()?, &mut open),
                Event::GeneralRef(name) => match name.resolve_char_ref()? {
                    Some(character) => add(character.encode_utf8(&mut [0; 4]), &mut open),
                    None => {
                        let name = name.decode()?;
                        add(resolve_xml_entity(&name).with_context(|| format!("no entity `{name}`"))?, &mut open);
                    }
                },
                Event::DocType(_) => bail!("a document type is not allowed"),
                Event::Comment(_) | Event::PI(_) => {}
                Event::Eof => break,
            }
        }
        ensure!(open.is_empty(), "`{}` does not end", open[0].name);
        Ok(Document { declared, root: root.context("there is no element")? })
    }
}

fn element(start: &BytesStart<'_>) -> anyhow::Result<Element> {
    let name = std::str::from_utf8(start.local_name().into_inner())?.to_owned();
    let namespaced = start.attributes().flatten().any(|attribute| attribute.key.as_namespace_binding().is_some());
    Ok(Element { name, namespaced, ..Element::default() })
}

fn close(mut element: Element, open: &mut [Element], root: &mut Option<Element>) -> anyhow::Result<()> {
    element.text = element.text.trim().to_owned();
    match open.last_mut() {
        Some(parent) => parent.children.push(element),
        None => ensure!(root.replace(element).is_none(), "there are two elements side by side"),
    }
    Ok(())
}

fn add(piece: &str, open: &mut [Element]) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(piece);
    }
}

/// A document that is being written.
#[derive(Debug)]
pub(super) struct Writer {
    text: String,
}

impl Writer {
    /// Writes a document with this element at its root.
    pub(super) fn document(root: &str, namespace: &str, content: impl FnOnce(&mut Writer)) -> String {
        let mut writer = Writer { text: "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned() };
        writer.text.push_str(&format!("<{root} version=\"2.0\" xmlns=\"{namespace}\">"));
        content(&mut writer);
        writer.text.push_str(&format!("\n</{root}>\n"));
        writer.text
    }

    /// An element with others in it.
    pub(super) fn open(&mut self, name: &str, content: impl FnOnce(&mut Writer)) {
        self.text.push_str(&format!("\n<{name}>"));
        content(self);
        self.text.push_str(&format!("\n</{name}>"));
    }

    /// An element with text.
    pub(super) fn leaf(&mut self, name: &str, text: impl ToString) {
        let text = text.to_string();
        self.text.push_str(&format!("\n<{name}>{}</{name}>", escape(text.as_str())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_as_it_was_meant() {
        let text = Writer::document("List", "urn:x", |list| {
            list.open("item", |item| item.leaf("uri", "rtsp://h/?a=1&b=<2>"));
            list.leaf("empty", "");
        });
        let document = Document::read(text.as_bytes()).unwrap();
        assert!(document.declared && document.root.namespaced);
        assert_eq!(document.root.name, "List");
        assert_eq!(document.root.text(&["item", "uri"]), Some("rtsp://h/?a=1&b=<2>"));
        assert_eq!(document.root.text(&["empty"]), Some(""));
        assert_eq!(document.root.text(&["item", "none"]), None);
    }

    #[test]
    fn what_clients_send_is_read() {
        for text in [
            r#"<?xml version = "1.0" encoding = "UTF-8" ?><a version="1.0" xmlns="u"><b> x&amp;y&#33; </b></a>"#,
            "<p:a xmlns:p='u'><p:b><![CDATA[x&y!]]></p:b><c/></p:a>",
            "\r\n<a><!-- - --><b>\n x&amp;y!\n</b></a>\r\n",
        ] {
            assert_eq!(Document::read(text.as_bytes()).unwrap().root.text(&["b"]), Some("x&y!"), "{text}");
        }
        for text in ["", "x", "<a>", "<a></b>", "<a/><b/>", "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "<a>&b;</a>"] {
            assert!(Document::read(text.as_bytes()).is_err(), "{text}");
        }
    }
}
