//! A compiled kernel as one artifact: the image, and the names in it that the source asked for.

use crate::nvrtc::error::{Diagnostic, diagnostics};
use crate::persist::codec;
use crate::persist::store::Record;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// Stands before the image in the stored bytes.
#[derive(Serialize, Deserialize)]
struct Header {
    lowered: Vec<(String, String)>,
    log: String,
}

/// Warnings beyond are cut: a template library can make thousands.
const LOG_BYTES_AT_MOST: usize = 16 << 10;

/// The image of a kernel: CUBIN or PTX, as its architecture says. It derefs to the bytes that the driver loads.
#[derive(Clone)]
pub struct KernelImage {
    record: Record,
    image: Range<usize>,
    header: Arc<Header>,
}

impl KernelImage {
    /// The mangled name of a name expression, for looking the function up in the loaded module.
    pub fn lowered_name(&self, expression: &str) -> Option<&str> {
        self.header.lowered.iter().find(|(asked, _)| asked == expression).map(|(_, lowered)| &**lowered)
    }

    /// What the compiler warned of. A hit repeats it.
    pub fn warnings(&self) -> Vec<Diagnostic> {
        diagnostics(&self.header.log)
    }

    /// How long compiling it took.
    pub fn compile_ns(&self) -> u64 {
        self.record.meta().compile_ns
    }

    /// The same without the image's bytes.
    pub(crate) fn names_alone(self) -> KernelImage {
        KernelImage {
            record: Record::from_vec(Vec::new(), self.record.meta().clone()),
            image: 0..0,
            header: self.header,
        }
    }

    /// The image in a stored artifact; `None` if it is none. `lowered` are the expressions that it must have.
    pub(crate) fn from_record(record: Record, expressions: &[String]) -> Option<KernelImage> {
        let header_bytes = u32::from_le_bytes(*record.first_chunk::<4>()?) as usize;
        let image = 4usize.checked_add(header_bytes)?..record.len();
        let header: Header = codec::from_bytes(record.get(4..image.start)?)?;
        let asked = header.lowered.iter().map(|(asked, _)| asked);
        let whole = !image.is_empty() && asked.eq(expressions);
        whole.then(|| KernelImage { record, image, header: Arc::new(header) })
    }

    /// What [`from_record`](KernelImage::from_record) reads.
    pub(crate) fn to_artifact(image: &[u8], lowered: Vec<(String, String)>, mut log: String) -> Vec<u8> {
        cut(&mut log);
        let header = codec::to_bytes(&Header { lowered, log });
        let mut out = Vec::with_capacity(4 + header.len() + image.len());
        out.extend((header.len() as u32).to_le_bytes());
        out.extend(header);
        out.extend(image);
        out
    }
}

impl Deref for KernelImage {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.record[self.image.clone()]
    }
}

impl fmt::Debug for KernelImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelImage").field("bytes", &self.len()).field("lowered", &self.header.lowered).finish()
    }
}

fn cut(log: &mut String) {
    let mut end = log.len().min(LOG_BYTES_AT_MOST);
    while !log.is_char_boundary(end) {
        end -= 1;
    }
    log.truncate(end);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persist::envelope::Meta;

    #[test]
    fn an_image_comes_back_with_its_names_and_from_nothing_else() {
        let names = vec![("k<float>".to_owned(), "_Z1kIfEvv".to_owned())];
        let expressions = vec!["k<float>".to_owned()];
        let bytes = KernelImage::to_artifact(b"\x7fELF", names, "k.cu(3): warning #1: old\n".to_owned());
        let record = |bytes: &[u8]| Record::from_vec(bytes.to_vec(), Meta::default());
        let image = KernelImage::from_record(record(&bytes), &expressions).unwrap();
        assert_eq!((&*image, image.lowered_name("k<float>")), (&b"\x7fELF"[..], Some("_Z1kIfEvv")));
        assert_eq!(image.lowered_name("k<int>"), None);
        assert_eq!(image.warnings()[0].to_string(), "k.cu:3: warning: old");
        assert!(KernelImage::from_record(record(&bytes), &[]).is_none());
        for length in 0..bytes.len() - 3 {
            assert!(KernelImage::from_record(record(&bytes[..length]), &expressions).is_none(), "{length} bytes");
        }
    }
}
