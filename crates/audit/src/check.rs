//! One walk over a log directory that finds whatever is not as it was written.
//!
//! Verification and recovery are the same walk; they differ in where it starts and in what they
//! do with the result. Memory is bounded by the number of segments and of open intents. Longer
//! than most files here, because the rules for one segment belong together.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use moat_model::Code;
use moat_model::code::audit as codes;
use moat_tlog::tile::{BUNDLE_BYTES_MAX, Bundle, WIDTH_MAX};

use crate::finding::{Finding, Findings, Torn, Unpaired};
use crate::hash::{Hash, ZERO, leaf_hash, sha256};
use crate::merkle::Frontier;
use crate::record::{Kind, Leaf, Pairing, STOP_NOTE, decode_leaf};
use crate::sealed::{Segment, open_segment, removal_in};
use crate::segment::{
    self, FRAME_MAGIC, FRAME_PREFIX_BYTES, Footer, Frame, HEADER_BYTES_MAX, Header,
    PAYLOAD_BYTES_MAX, SegmentError, decode_frame, decode_header,
};
use crate::sidecar::{self, HeadFile, HeadMark};
use crate::store::{Readable, Store, Window, read_file, read_from, read_start, segment_names};

/// Longest frame with its prefix, in bytes: no crash leaves more behind.
const FRAME_BYTES_MAX: usize = PAYLOAD_BYTES_MAX + FRAME_PREFIX_BYTES;
/// How many places that look like a frame are tried before a tail is held to be damage. Only a
/// record made to look like frames has more.
const CANDIDATES_MAX: usize = 64;
/// How far ahead the seq of a frame after a torn one can be.
const SEQ_AHEAD_MAX: u64 = 1 << 16;

/// Where the walk starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// At the first record.
    Start,
    /// As far back as the oldest open intent of the last segment, and one segment at least.
    #[cfg_attr(not(feature = "write"), expect(dead_code, reason = "recovery alone uses it"))]
    Tail,
}

/// The end of the log as walked so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tail {
    pub(crate) next_seq: u64,
    pub(crate) prev_leaf_hash: Hash,
    pub(crate) last_wall_ns: u64,
    pub(crate) frontier: Frontier,
    pub(crate) open: BTreeMap<u64, Pairing>,
}

impl Tail {
    /// Takes one record that was read or made durable.
    pub(crate) fn push(&mut self, hash: Hash, wall_ns: u64, pairing: &Pairing) {
        if pairing.kind == Kind::Intent {
            self.open.insert(self.next_seq, *pairing);
        } else if let Some(seq) = pairing.intent_seq {
            self.open.remove(&seq);
        }
        self.next_seq += 1;
        self.prev_leaf_hash = hash;
        self.last_wall_ns = wall_ns;
        self.frontier.push(hash);
    }

    #[cfg(feature = "write")]
    pub(crate) fn oldest_open(&self) -> Option<u64> {
        self.open.keys().next().copied()
    }

    pub(crate) fn unpaired(&self) -> Vec<Unpaired> {
        let one = |(&seq, pairing): (&u64, &Pairing)| Unpaired {
            seq,
            trace_id: pairing.trace_id,
            tx_id: pairing.tx_id,
        };
        self.open.iter().map(one).collect()
    }
}

/// The last live segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Last {
    pub(crate) name: String,
    pub(crate) header: Header,
    /// Bytes that count.
    pub(crate) valid_len: u64,
    /// Hash of its last frame, or of its header.
    pub(crate) chain: Hash,
    pub(crate) sealed: bool,
    /// Records in it.
    pub(crate) count: u64,
}

/// What a walk found.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    pub(crate) findings: Findings,
    pub(crate) tail: Tail,
    pub(crate) last: Option<Last>,
    pub(crate) torn: Option<Torn>,
    pub(crate) mark: Option<HeadMark>,
    pub(crate) segments: u64,
    pub(crate) bytes: u64,
    pub(crate) epoch_max: u64,
    /// Whether the last record is the one with which an auditor ends in good order.
    pub(crate) is_stopped: bool,
    /// Records whose bodies are not there any more, in order.
    pub(crate) removed: Vec<Range<u64>>,
}

/// One segment file before it is walked.
struct File<F> {
    name: String,
    first_seq: u64,
    file: Segment<F>,
    size: u64,
    header: Result<(Header, usize), SegmentError>,
    /// Whether the bytes at its start hold the magic of a frame.
    has_frames: bool,
}

/// Sees each record as it is read.
pub(crate) trait Watch {
    /// A record and its leaf hash.
    fn see(&mut self, seq: u64, hash: &Hash);
    /// Records that are not there any more, and the tree that must end with them, where that is
    /// known. Gives the leaf hash of the last of them, if anything has it.
    fn skip(&mut self, removed: Range<u64>, after: Option<&Frontier>) -> Option<Hash>;
}

/// Looks away.
struct Unwatched;

impl Watch for Unwatched {
    fn see(&mut self, _: u64, _: &Hash) {}

    fn skip(&mut self, _: Range<u64>, _: Option<&Frontier>) -> Option<Hash> {
        None
    }
}

/// Walks the log in `store`.
pub(crate) fn check<S: Store>(store: &S, from: From) -> io::Result<Checked> {
    check_with(store, from, &mut Unwatched)
}

/// As [`check`], and shows each record to `watch`.
pub(crate) fn check_with<S: Store>(
    store: &S,
    from: From,
    watch: &mut dyn Watch,
) -> io::Result<Checked> {
    // The sidecar is read first: in a live log it may only be behind the segments.
    let head = sidecar::read(store)?;
    let files = read_headers(store)?;
    let mut walk = Walk::new(watch);
    walk.out.mark = match head {
        HeadFile::Read { mark, .. } => mark,
        HeadFile::Missing => None,
    };
    let live = live(&files);
    let start = match from {
        From::Start => 0,
        From::Tail => walk.start_at_tail(&live),
    };
    for (at, file) in live.iter().enumerate().skip(start) {
        walk.segment(file, live.get(at + 1).copied())?;
    }
    walk.dead_files(&files, &live);
    walk.head_file(head, !files.is_empty());
    walk.unsaid_removals(1);
    Ok(walk.out)
}

fn read_headers<S: Store>(store: &S) -> io::Result<Vec<File<S::File>>> {
    let mut files = Vec::new();
    for name in segment_names(store)? {
        let file = open_segment(store, &name)?;
        let start = read_start(&file, HEADER_BYTES_MAX)?;
        files.push(File {
            first_seq: segment::parse_file_name(&name).map_or(0, |(first_seq, _)| first_seq),
            size: file.size()?,
            header: decode_header(&start),
            has_frames: start.windows(4).any(|bytes| bytes == FRAME_MAGIC),
            file,
            name,
        });
    }
    Ok(files)
}

/// The segments that count. One that was begun, failed before its first frame and could not be
/// removed has the number of the one made in its stead; it is stillborn and left out.
fn live<F>(files: &[File<F>]) -> Vec<&File<F>> {
    let all: Vec<_> = files
        .iter()
        .filter_map(|file| file.header.as_ref().ok().map(|(header, len)| (file, header, *len)))
        .collect();
    let born = |(at, &(file, header, len)): (usize, &(&_, &Header, usize))| {
        let file: &File<F> = file;
        let is_empty = usize::try_from(file.size).is_ok_and(|size| size == len);
        let replaced = all.get(at + 1).is_some_and(|(_, next, _)| {
            next.index == header.index
                && next.first_seq == header.first_seq
                && next.prev_hash == header.prev_hash
        });
        !(is_empty && replaced)
    };
    all.iter().enumerate().filter(|&entry| born(entry)).map(|(_, (file, ..))| *file).collect()
}

/// Walks the entry bundles of a tree of `size` leaves: a log as others keep it, without segments.
pub(crate) fn check_bundles<S: Store>(
    store: &S,
    log_id: &str,
    size: u64,
    watch: &mut dyn Watch,
) -> io::Result<Checked> {
    let mut walk = Walk::new(watch);
    while walk.out.tail.next_seq < size {
        let next = walk.out.tail.next_seq;
        let Some(bundle) = Bundle::in_tree(next / 256, size) else { break };
        let name = bundle.path();
        let place = Place { name: &name, offset: 0, log_id, first_seq: 0, sealed: false };
        // A full bundle may stand for a partial one: it has more entries at its end.
        let full = Bundle::new(bundle.index(), WIDTH_MAX).unwrap_or(bundle);
        let (mut entries, mut is_there) = (None, false);
        for there in [bundle, full] {
            let bytes = read_file(store, &there.path(), BUNDLE_BYTES_MAX + 1)?;
            is_there |= bytes.is_some();
            entries = entries.or_else(|| {
                let entries = there.decode(bytes.as_deref()?).ok()?;
                Some(entries.into_iter().map(<[u8]>::to_vec).collect::<Vec<_>>())
            });
        }
        let Some(entries) = entries else {
            // A copy lacks the bundles of records that were removed; what it says of them is looked
            // at in the end.
            let end = size.min(next.saturating_add(u64::from(WIDTH_MAX)));
            if is_there {
                walk.find(&place, &codes::RECORDS_MISSING, "the bundle is malformed");
            }
            walk.remove(next..end, None);
            continue;
        };
        walk.out.segments += 1;
        for entry in entries.iter().take(usize::from(bundle.width())) {
            walk.out.bytes += u64::try_from(entry.len()).unwrap_or(0);
            walk.leaf(&place, entry);
        }
    }
    walk.unsaid_removals(u64::from(WIDTH_MAX));
    Ok(walk.out)
}

struct Walk<'w> {
    watch: &'w mut dyn Watch,
    out: Checked,
    /// The removals that ADMIN records speak of.
    said: Vec<Range<u64>>,
    /// Hash of the last frame or header.
    chain: Hash,
    /// Index that the next segment must have.
    index: u64,
    /// Records found beyond the valid length of a failed segment; those that follow must be equal.
    rewritten: BTreeMap<u64, Hash>,
    /// Leaf hash of the record that the sidecar names.
    watched: Option<Hash>,
}

/// Where the walk stands within one segment.
struct Place<'a> {
    name: &'a str,
    offset: u64,
    log_id: &'a str,
    first_seq: u64,
    sealed: bool,
}

impl<'w> Walk<'w> {
    fn new(watch: &'w mut dyn Watch) -> Walk<'w> {
        Walk {
            watch,
            out: Checked::default(),
            said: Vec::new(),
            chain: ZERO,
            index: 0,
            rewritten: BTreeMap::new(),
            watched: None,
        }
    }

    fn find(&mut self, place: &Place<'_>, code: &'static Code, text: impl Into<String>) {
        let seq = Some(self.out.tail.next_seq);
        let (segment, offset) = (place.name.to_owned(), place.offset);
        self.out.findings.push(Finding { code, segment, offset, seq, text: text.into() });
    }

    /// Takes the state before a late segment from its header, and says which one it is.
    fn start_at_tail<F>(&mut self, live: &[&File<F>]) -> usize {
        let headers: Vec<&Header> = live
            .iter()
            .filter_map(|file| file.header.as_ref().ok().map(|(header, _)| header))
            .collect();
        let Some(last) = headers.last() else { return 0 };
        let back_to = last.oldest_open.unwrap_or(last.first_seq);
        let holding = headers.iter().rposition(|header| header.first_seq <= back_to).unwrap_or(0);
        let start = holding.min(headers.len().saturating_sub(2));
        if let Some(header) = headers.get(start) {
            self.resume(header);
        }
        start
    }

    fn resume(&mut self, header: &Header) {
        self.index = header.index;
        self.chain = header.prev_hash;
        self.out.tail.next_seq = header.first_seq;
        self.out.tail.prev_leaf_hash = header.prev_leaf_hash;
        self.out.tail.frontier = header.frontier.clone();
    }

    fn segment<F: Readable>(&mut self, file: &File<F>, next: Option<&File<F>>) -> io::Result<()> {
        let Ok((header, header_len)) = &file.header else { return Ok(()) };
        let header_len = u64::try_from(*header_len).unwrap_or(u64::MAX);
        let mut place = Place {
            name: &file.name,
            offset: 0,
            log_id: &header.log_id,
            first_seq: header.first_seq,
            sealed: false,
        };
        self.out.epoch_max = self.out.epoch_max.max(header.epoch);
        if !self.header(&place, file, header) {
            return Ok(());
        }
        self.out.segments += 1;
        self.out.bytes += file.size;
        self.chain = sha256(&read_start(&file.file, usize::try_from(header_len).unwrap_or(0))?);
        place.offset = header_len;

        let next = next.and_then(|next| next.header.as_ref().ok()).map(|(next, _)| next);
        // A segment that is missing in between says nothing about this one.
        let next = next.filter(|next| next.index == header.index + 1);
        let limit = next.map_or(file.size, |next| next.prev_len.min(file.size));
        if file.file.is_removed() {
            self.removed_segment(&place, header, next);
            return Ok(());
        }
        if next.is_some_and(|next| next.prev_len > file.size) {
            place.offset = file.size;
            self.find(&place, &codes::LOG_CUT, "the segment is shorter than the next one says");
            place.offset = header_len;
        }
        let may_be_torn = next.is_none() && matches!(file.file, Segment::Plain(_));
        let whole = self.frames(&mut place, file, limit, may_be_torn)?;
        if whole && let Some(next) = next {
            self.residue(&mut place, file, limit, next)?;
        }
        self.out.last = Some(Last {
            name: file.name.clone(),
            header: header.clone(),
            valid_len: place.offset.min(limit),
            chain: self.chain,
            sealed: place.sealed,
            count: self.out.tail.next_seq.saturating_sub(header.first_seq),
        });
        Ok(())
    }

    /// A segment of which only the header is left: the next one says how it ended.
    fn removed_segment(&mut self, place: &Place<'_>, header: &Header, next: Option<&Header>) {
        let after = next.filter(|next| next.first_seq >= header.first_seq);
        let Some(next) = after else {
            let text = "the segment was removed, and none follows that says how it ended";
            self.find(place, &codes::RECORDS_MISSING, text);
            return;
        };
        self.remove(header.first_seq..next.first_seq, Some(&next.frontier));
        self.resume(next);
        self.out.last = Some(Last {
            name: place.name.to_owned(),
            header: header.clone(),
            valid_len: next.prev_len,
            chain: next.prev_hash,
            sealed: true,
            count: next.first_seq - header.first_seq,
        });
    }

    /// Goes on behind records that are not there.
    fn remove(&mut self, range: Range<u64>, after: Option<&Frontier>) {
        self.out.tail.next_seq = range.end;
        if range.is_empty() {
            return;
        }
        if let Some(hash) = self.watch.skip(range.clone(), after) {
            self.out.tail.prev_leaf_hash = hash;
        }
        match self.out.removed.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.out.removed.push(range),
        }
    }

    /// Finds removals of which no record says that retention made them. Copies round what was removed
    /// outwards to the next multiple of `grain` records.
    fn unsaid_removals(&mut self, grain: u64) {
        let mut said = std::mem::take(&mut self.said);
        said.sort_by_key(|range| range.start);
        for removed in self.out.removed.clone() {
            let (mut from, end) = (removed.start, removed.end.saturating_sub(grain - 1));
            for range in &said {
                if range.start <= from.saturating_add(grain - 1) {
                    from = from.max(range.end);
                }
            }
            if from >= end {
                continue;
            }
            let name = segment::file_name(removed.start, 0);
            self.out.findings.push(Finding {
                code: &codes::REMOVED_UNSAID,
                segment: name,
                offset: 0,
                seq: Some(from.min(removed.end)),
                text: format!(
                    "records {} to {} are not there, and no record says that retention removed all \
                     of them",
                    removed.start,
                    removed.end - 1
                ),
            });
        }
    }

    /// Compares a header with what went before; false when the segment must be left out.
    fn header<F>(&mut self, place: &Place<'_>, file: &File<F>, header: &Header) -> bool {
        if file.first_seq != header.first_seq {
            self.find(place, &codes::FOREIGN, "the file has another segment's name");
        }
        if let Some(last) = &self.out.last
            && last.header.log_id != header.log_id
        {
            let text = format!("the segment belongs to log {}", header.log_id);
            self.find(place, &codes::FOREIGN, text);
            return false;
        }
        if header.index < self.index {
            let text = format!("segment number {} stands twice or out of order", header.index);
            self.find(place, &codes::RECORDS_MISSING, text);
            return false;
        }
        if header.index > self.index {
            let text =
                format!("segment number {} follows where {} should", header.index, self.index);
            self.find(place, &codes::RECORDS_MISSING, text);
        } else if header.first_seq != self.out.tail.next_seq {
            let text = format!("the segment begins with record {}", header.first_seq);
            self.find(place, &codes::RECORDS_MISSING, text);
        } else if header.prev_hash != self.chain {
            self.find(place, &codes::CHAIN_BROKEN, "the segment before has another hash");
        } else if header.prev_leaf_hash != self.out.tail.prev_leaf_hash
            || header.frontier != self.out.tail.frontier
        {
            self.find(place, &codes::CHAIN_BROKEN, "the records before have other hashes");
        }
        // Whatever was wrong is said once; from here the segment's own word is followed.
        self.resume(header);
        self.index = header.index + 1;
        true
    }

    /// Walks the frames up to `limit`; false when it had to stop before.
    fn frames<F: Readable>(
        &mut self,
        place: &mut Place<'_>,
        file: &File<F>,
        limit: u64,
        is_last: bool,
    ) -> io::Result<bool> {
        let mut window = Window::over(file.size);
        while place.offset < limit {
            let left = usize::try_from(limit - place.offset).unwrap_or(usize::MAX);
            let prefix = window.at(&file.file, place.offset, left.min(FRAME_PREFIX_BYTES))?;
            let want = segment::frame_len(prefix).unwrap_or(0).min(left);
            let frame = decode_frame(window.at(&file.file, place.offset, want)?);
            let len = match frame {
                Ok(frame) => self.frame(place, &frame),
                Err(error) => {
                    self.bad_frame(place, file, limit, is_last.then_some(error), error)?;
                    return Ok(false);
                }
            };
            place.offset += u64::try_from(len).unwrap_or(u64::MAX);
        }
        Ok(true)
    }

    /// A frame that is none: torn by a crash, or damaged.
    fn bad_frame<F: Readable>(
        &mut self,
        place: &Place<'_>,
        file: &File<F>,
        limit: u64,
        may_be_torn: Option<SegmentError>,
        error: SegmentError,
    ) -> io::Result<()> {
        let left = limit - place.offset;
        let could_be = may_be_torn.is_some() && !place.sealed && is_one_frame(left);
        if could_be {
            let rest = read_from(&file.file, place.offset, len_of(left))?;
            let later = rest.get(1..).unwrap_or_default();
            if !has_later_frame(later, self.out.tail.next_seq) {
                let (segment, offset) = (place.name.to_owned(), place.offset);
                self.out.torn = Some(Torn { segment, offset, bytes: left });
                return Ok(());
            }
        }
        self.find(place, &codes::DAMAGED, format!("no frame can be read there: {error}"));
        Ok(())
    }

    /// Checks one frame and says how long it is.
    fn frame(&mut self, place: &mut Place<'_>, frame: &Frame<'_>) -> usize {
        if place.sealed {
            self.find(place, &codes::DAMAGED, "a frame stands after the footer");
        }
        if frame.prev_frame_hash != self.chain {
            self.find(place, &codes::CHAIN_BROKEN, "the frame before has another hash");
        }
        if frame.seq_first != self.out.tail.next_seq {
            let text = format!("the frame begins with record {}", frame.seq_first);
            self.find(place, &codes::RECORDS_MISSING, text);
        }
        if frame.is_footer {
            self.footer(place, frame);
            place.sealed = true;
        }
        for leaf in frame.leaves() {
            self.leaf(place, leaf);
        }
        self.chain = frame.hash();
        frame.bytes.len()
    }

    fn footer(&mut self, place: &Place<'_>, frame: &Frame<'_>) {
        let tail = &self.out.tail;
        let expected = Footer {
            size: tail.next_seq,
            count: tail.next_seq.saturating_sub(place.first_seq),
            last_leaf_hash: tail.prev_leaf_hash,
            root_sha256: tail.frontier.root(),
            root_sm3: None,
        };
        match Footer::decode(frame) {
            Ok(footer) if (Footer { root_sm3: None, ..footer }) == expected => {}
            Ok(_) => self.find(place, &codes::CHAIN_BROKEN, "the footer does not fit the records"),
            Err(error) => self.find(place, &codes::DAMAGED, format!("footer: {error}")),
        }
    }

    fn leaf(&mut self, place: &Place<'_>, bytes: &[u8]) {
        let hash = leaf_hash(bytes);
        let seq = self.out.tail.next_seq;
        if self.rewritten.remove(&seq).is_some_and(|other| other != hash) {
            self.find(place, &codes::TWO_HISTORIES, "the failed segment holds another record");
        }
        if self.out.mark.is_some_and(|mark| mark.records == seq + 1) {
            self.watched = Some(hash);
        }
        match decode_leaf(bytes) {
            Ok(leaf) => {
                self.head(place, &leaf);
                let is_own = leaf.body.kind == Kind::Admin && leaf.body.actor.is_empty();
                self.out.is_stopped = is_own && leaf.body.note == STOP_NOTE;
                if is_own && let Some((first, end)) = removal_in(&leaf.body.note) {
                    // A record can speak of what came before it only.
                    self.said.push(first..end.min(seq));
                }
                let wall_ns = leaf.head.t_wall_ns;
                self.out.tail.push(hash, wall_ns, &Pairing::from(&leaf.body));
            }
            Err(error) => {
                self.find(place, &codes::MALFORMED_RECORD, error.to_string());
                self.out.is_stopped = false;
                // It has a place in the tree all the same.
                let last_wall_ns = self.out.tail.last_wall_ns;
                let pairing =
                    Pairing { kind: Kind::Check, trace_id: [0; 16], tx_id: None, intent_seq: None };
                self.out.tail.push(hash, last_wall_ns, &pairing);
            }
        }
        self.watch.see(seq, &hash);
    }

    fn head(&mut self, place: &Place<'_>, leaf: &Leaf) {
        let head = &leaf.head;
        if head.log_id != place.log_id {
            self.find(place, &codes::FOREIGN, format!("the record belongs to log {}", head.log_id));
        }
        if head.seq != self.out.tail.next_seq {
            self.find(place, &codes::RECORDS_MISSING, format!("the record says {}", head.seq));
        }
        if head.prev_hash != self.out.tail.prev_leaf_hash {
            self.find(place, &codes::CHAIN_BROKEN, "the record before has another hash");
        }
        if head.t_wall_ns < self.out.tail.last_wall_ns {
            self.find(place, &codes::TIME_STEPPED, "its time is before that of the record before");
        }
    }

    /// Looks at what lies beyond the valid length of a segment that failed or was torn.
    fn residue<F: Readable>(
        &mut self,
        place: &mut Place<'_>,
        file: &File<F>,
        limit: u64,
        next: &Header,
    ) -> io::Result<()> {
        let left = file.size - limit;
        if left == 0 {
            return Ok(());
        }
        if place.sealed || !is_one_frame(left) {
            self.find(place, &codes::DAMAGED, "bytes stand where the segment has ended");
            return Ok(());
        }
        let rest = read_from(&file.file, limit, len_of(left))?;
        let mut rest = rest.as_slice();
        while let Ok(frame) = decode_frame(rest) {
            for (seq, leaf) in (frame.seq_first..).zip(frame.leaves()) {
                if seq >= next.first_seq {
                    self.rewritten.insert(seq, leaf_hash(leaf));
                }
            }
            rest = rest.get(frame.bytes.len()..).unwrap_or_default();
        }
        Ok(())
    }

    /// A file without a header is what a crash leaves of a segment just begun, or it is damage.
    fn dead_files<F>(&mut self, files: &[File<F>], live: &[&File<F>]) {
        for file in files {
            let Err(error) = file.header else { continue };
            let follows = live.iter().find(|other| other.first_seq >= file.first_seq);
            let next_seq = follows.map_or(self.out.tail.next_seq, |next| next.first_seq);
            let is_plain = matches!(file.file, Segment::Plain(_));
            let short =
                is_plain && usize::try_from(file.size).is_ok_and(|size| size <= HEADER_BYTES_MAX);
            if short && !file.has_frames && file.first_seq == next_seq {
                continue;
            }
            self.out.findings.push(Finding {
                code: &codes::DAMAGED,
                segment: file.name.clone(),
                offset: 0,
                seq: Some(file.first_seq),
                text: match &file.file {
                    Segment::Damaged(why) => why.clone(),
                    _ => format!("the header cannot be read: {error}"),
                },
            });
        }
    }

    fn head_file(&mut self, head: HeadFile, has_segments: bool) {
        let place =
            Place { name: sidecar::HEAD_FILE, offset: 0, log_id: "", first_seq: 0, sealed: false };
        match head {
            HeadFile::Missing if has_segments => {
                self.find(&place, &codes::LOG_CUT, "the file that marks the end is missing");
            }
            HeadFile::Missing => {}
            HeadFile::Read { mark, damaged } => {
                if damaged || mark.is_none() {
                    self.find(&place, &codes::DAMAGED, "a mark of the end cannot be read");
                }
                if let Some(mark) = mark {
                    self.head_mark(&place, mark);
                }
            }
        }
    }

    fn head_mark(&mut self, place: &Place<'_>, mark: HeadMark) {
        if mark.records > self.out.tail.next_seq {
            let text = format!("{} records were durable", mark.records);
            self.find(place, &codes::LOG_CUT, text);
        } else if self.watched.is_some_and(|hash| hash != mark.last_leaf_hash) {
            let text = format!("record {} was another one", mark.records.saturating_sub(1));
            self.find(place, &codes::TWO_HISTORIES, text);
        }
    }
}

fn len_of(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn is_one_frame(len: u64) -> bool {
    usize::try_from(len).is_ok_and(|len| len <= FRAME_BYTES_MAX)
}

/// Whether a good frame begins anywhere in `bytes` that could follow in this log: then what is
/// before it was not torn by a crash.
fn has_later_frame(bytes: &[u8], next_seq: u64) -> bool {
    let mut candidates = 0;
    for at in 0..bytes.len() {
        let Some(rest) = bytes.get(at..) else { break };
        if segment::frame_len(rest).is_err() || !is_ahead(rest, next_seq) {
            continue;
        }
        candidates += 1;
        if candidates > CANDIDATES_MAX || decode_frame(rest).is_ok() {
            return true;
        }
    }
    false
}

/// Whether the seq of what looks like a frame lies a little after `next_seq`.
fn is_ahead(frame: &[u8], next_seq: u64) -> bool {
    let seq = frame.get(12..).and_then(|rest| rest.split_first_chunk::<8>());
    seq.map(|(seq, _)| u64::from_be_bytes(*seq))
        .and_then(|seq| seq.checked_sub(next_seq))
        .is_some_and(|ahead| (1..=SEQ_AHEAD_MAX).contains(&ahead))
}
