//! A part of a workbook as a run of events, none of which is larger than a cell may be.

use std::borrow::Cow;
use std::io::{self, BufRead, Read};

use quick_xml::Reader;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::attributes::Attribute;
use quick_xml::events::{BytesEnd, BytesRef, BytesStart, Event};

use super::super::MAX_CELL;
use super::super::fault::SheetError;
use super::package::{damaged, too_large};

/// Bytes of one event, at most.
const MAX_EVENT: usize = 2 * MAX_CELL;

/// What comes next in a part. Elements go by their local names: prefixes are each program's own.
pub(super) enum Item<'a> {
    /// An element begins. One that is empty ends next.
    Begin(Element<'a>),
    /// An element ends.
    End(Ending<'a>),
    /// Text, or a piece of it.
    Text(Cow<'a, str>),
    /// What is no content.
    Nothing,
}

/// An element that begins.
pub(super) struct Element<'a>(BytesStart<'a>);

impl Element<'_> {
    /// Its local name.
    pub(super) fn name(&self) -> &[u8] {
        self.0.local_name().into_inner()
    }

    /// The attribute of that local name.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        let is = |attribute: &Attribute<'_>| attribute.key.local_name().into_inner() == name.as_bytes();
        let found = self.0.attributes().flatten().find(is)?;
        let value = std::str::from_utf8(&found.value).ok()?;
        quick_xml::escape::unescape(value).ok().map(Cow::into_owned)
    }
}

/// An element that ends.
pub(super) struct Ending<'a>(BytesEnd<'a>);

impl Ending<'_> {
    /// Its local name.
    pub(super) fn name(&self) -> &[u8] {
        self.0.local_name().into_inner()
    }
}

/// The events of a part.
pub(super) struct Events<'p, R> {
    reader: Reader<Bounded<'p, R>>,
    buffer: Vec<u8>,
}

impl<'p, R: BufRead> Events<'p, R> {
    /// Reads a part, and counts what comes off `left`.
    pub(super) fn new(source: R, left: &'p mut u64) -> Self {
        let mut reader = Reader::from_reader(Bounded { source, left, event: MAX_EVENT });
        reader.config_mut().expand_empty_elements = true;
        Self { reader, buffer: Vec::new() }
    }

    /// What comes next; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Item<'_>>, SheetError> {
        self.buffer.clear();
        self.reader.get_mut().event = MAX_EVENT;
        let event = match self.reader.read_event_into(&mut self.buffer) {
            Ok(event) => event,
            Err(_) if *self.reader.get_ref().left == 0 => return Err(too_large()),
            Err(_) => return Err(damaged()),
        };
        Ok(Some(match event {
            Event::Start(start) | Event::Empty(start) => Item::Begin(Element(start)),
            Event::End(end) => Item::End(Ending(end)),
            Event::Text(text) => Item::Text(text.decode().map_err(|_| damaged())?),
            Event::CData(text) => Item::Text(text.decode().map_err(|_| damaged())?),
            Event::GeneralRef(name) => Item::Text(referred(&name)?.into()),
            // Entities of a document's own are how a small one becomes a large one.
            Event::DocType(_) => return Err(SheetError::refused("the workbook has a document type, which none needs")),
            Event::Decl(_) | Event::Comment(_) | Event::PI(_) => Item::Nothing,
            Event::Eof => return Ok(None),
        }))
    }
}

fn referred(name: &BytesRef<'_>) -> Result<String, SheetError> {
    if let Some(c) = name.resolve_char_ref().map_err(|_| damaged())? {
        return Ok(c.to_string());
    }
    let name = name.decode().map_err(|_| damaged())?;
    resolve_xml_entity(&name).map(str::to_owned).ok_or_else(damaged)
}

/// A reader that ends in an error where one event, or all of them, have more bytes than they may.
struct Bounded<'p, R> {
    source: R,
    left: &'p mut u64,
    event: usize,
}

impl<R: BufRead> BufRead for Bounded<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let most = usize::try_from(*self.left).unwrap_or(usize::MAX).min(self.event);
        if most == 0 {
            return Err(io::Error::other("too much"));
        }
        let bytes = self.source.fill_buf()?;
        Ok(&bytes[..bytes.len().min(most)])
    }

    fn consume(&mut self, bytes: usize) {
        self.source.consume(bytes);
        self.event -= bytes;
        *self.left -= bytes as u64;
    }
}

impl<R: BufRead> Read for Bounded<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let count = bytes.len().min(into.len());
        into[..count].copy_from_slice(&bytes[..count]);
        self.consume(count);
        Ok(count)
    }
}
