//! The only thing that SQL can read: byte ranges of the segments of the opened captures.
//!
//! A read-only [`ObjectStore`]. A segment is a range within a ZIP file or a file of its own; both are read in place.
//! Nothing is listed and nothing is written, and a name that is not a segment's does not exist.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use ebrec_format::capture::Segment;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

const STORE: &str = "ebrec";

/// The segments of the opened captures, by path.
#[derive(Debug, Default)]
pub struct CaptureStore {
    segments: HashMap<Path, Segment>,
}

impl CaptureStore {
    /// Adds a segment of capture number `capture`, and says by which name DataFusion may ask for it.
    pub fn add(&mut self, capture: usize, segment: &Segment) -> ObjectMeta {
        let location = Path::from(format!("{capture}/{}", segment.name));
        self.segments.insert(location.clone(), segment.clone());
        meta(location, segment)
    }

    fn segment(&self, location: &Path) -> Result<&Segment> {
        self.segments.get(location).ok_or_else(|| Error::NotFound { path: location.to_string(), source: "no such segment".into() })
    }
}

fn meta(location: Path, segment: &Segment) -> ObjectMeta {
    ObjectMeta { location, last_modified: DateTime::<Utc>::UNIX_EPOCH, size: segment.len, e_tag: None, version: None }
}

fn read(segment: &Segment, range: &Range<u64>) -> Result<bytes::Bytes> {
    let failed = |source: std::io::Error| Error::Generic { store: STORE, source: source.into() };
    let len = usize::try_from(range.end.saturating_sub(range.start)).map_err(|error| failed(std::io::Error::other(error)))?;
    Ok(segment.read(range.start, len).map_err(failed)?.into())
}

fn read_only<T>(what: &str) -> Result<T> {
    Err(Error::NotSupported { source: format!("{what}: a capture is read-only").into() })
}

impl fmt::Display for CaptureStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{STORE} ({} segments)", self.segments.len())
    }
}

#[async_trait]
impl ObjectStore for CaptureStore {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let segment = self.segment(location)?;
        let meta = meta(location.clone(), segment);
        options.check_preconditions(&meta)?;
        let range = match &options.range {
            Some(range) => range.as_range(segment.len).map_err(|error| Error::Generic { store: STORE, source: Box::new(error) })?,
            None => 0..segment.len,
        };
        let bytes = if options.head { bytes::Bytes::new() } else { read(segment, &range)? };
        let payload = GetResultPayload::Stream(stream::once(async move { Ok(bytes) }).boxed());
        Ok(GetResult { payload, meta, range, attributes: object_store::Attributes::default() })
    }

    // Without coalescing: the ranges are pages of one local file, and reading the gaps would cost more than the calls.
    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<bytes::Bytes>> {
        let segment = self.segment(location)?;
        ranges.iter().map(|range| read(segment, range)).collect()
    }

    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        read_only("put")
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        read_only("put")
    }

    fn delete_stream(&self, _: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        stream::once(async { read_only("delete") }).boxed()
    }

    fn list(&self, _: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        stream::empty().boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Ok(ListResult { common_prefixes: Vec::new(), objects: Vec::new() })
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        read_only("copy")
    }
}
