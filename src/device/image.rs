//! Images of code: of which kind they are, and whether they are whole. Pure reading: no device, no driver.
//!
//! The driver is told where an image begins and not where it ends, so it believes the lengths in the image itself. A file that
//! was cut short would make it read past the end; so those lengths are checked here.

use crate::error::Error;
use std::borrow::Cow;

/// The bytes to hand to the driver: the image itself, or a copy of it that is aligned, and ends with a zero if it is text.
///
/// PTX is text; a CUBIN is an ELF file (TIS ELF 1.2, 64-bit, little-endian); a fat binary begins with a header of magic,
/// version, header size and payload size (CUDA toolkit, `fatbinary_section.h`).
pub(crate) fn whole(image: &[u8]) -> Result<Cow<'_, [u8]>, Error> {
    match image {
        [0x7f, b'E', b'L', b'F', ..] => check_elf(image)?,
        [0x50, 0xed, 0x55, 0xba, ..] => check_fat_binary(image)?,
        [0xb1, 0x43, 0x62, 0x46, ..] => {
            return bad("it is the wrapper of a fat binary, which only points to it; pass the bytes that it points to");
        }
        _ => return check_text(image),
    }
    Ok(Cow::Borrowed(image))
}

fn bad<T>(why: &str) -> Result<T, Error> {
    Err(Error::BadImage(why.to_owned()))
}

const CUT_SHORT: &str = "it is cut short: its headers describe more bytes than there are";

/// A little-endian number inside of the image.
fn number(image: &[u8], at: u64, bytes: usize) -> Result<u64, Error> {
    let start = usize::try_from(at).unwrap_or(usize::MAX);
    match start.checked_add(bytes).and_then(|end| image.get(start..end)) {
        Some(digits) => Ok(digits.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))),
        None => bad(CUT_SHORT),
    }
}

fn check_inside(image: &[u8], start: u64, bytes: u64) -> Result<(), Error> {
    match start.checked_add(bytes) {
        Some(end) if end <= image.len() as u64 => Ok(()),
        _ => bad(CUT_SHORT),
    }
}

fn check_elf(image: &[u8]) -> Result<(), Error> {
    const CLASS_64: u64 = 2;
    const LITTLE_ENDIAN: u64 = 1;
    const NO_BITS: u64 = 8;
    if number(image, 4, 1)? != CLASS_64 || number(image, 5, 1)? != LITTLE_ENDIAN {
        return bad("it is an ELF file, but not a 64-bit little-endian one, as CUBINs are");
    }
    check_inside(image, 0, 64)?;
    let (segments, sections) = (number(image, 32, 8)?, number(image, 40, 8)?);
    let (segment_bytes, segment_count) = (number(image, 54, 2)?, number(image, 56, 2)?);
    let (section_bytes, section_count) = (number(image, 58, 2)?, number(image, 60, 2)?);
    check_inside(image, segments, segment_bytes * segment_count)?;
    check_inside(image, sections, section_bytes * section_count)?;
    for segment in 0..segment_count {
        let at = segments + segment * segment_bytes;
        check_inside(image, number(image, at + 8, 8)?, number(image, at + 32, 8)?)?;
    }
    for section in 0..section_count {
        let at = sections + section * section_bytes;
        if number(image, at + 4, 4)? != NO_BITS {
            check_inside(image, number(image, at + 24, 8)?, number(image, at + 32, 8)?)?;
        }
    }
    Ok(())
}

fn check_fat_binary(image: &[u8]) -> Result<(), Error> {
    let (header_bytes, payload_bytes) = (number(image, 6, 2)?, number(image, 8, 8)?);
    if header_bytes < 16 {
        return bad("its fat binary header is damaged");
    }
    check_inside(image, header_bytes, payload_bytes)
}

fn check_text(image: &[u8]) -> Result<Cow<'_, [u8]>, Error> {
    let text = image.strip_suffix(&[0]).unwrap_or(image);
    if text.is_empty() {
        return bad("it is empty");
    }
    if text.contains(&0) || std::str::from_utf8(text).is_err() {
        return bad("it is neither PTX text, nor a CUBIN, nor a fat binary");
    }
    if text.len() < image.len() { Ok(Cow::Borrowed(image)) } else { Ok(Cow::Owned([text, &[0]].concat())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(image: &[u8]) -> String {
        whole(image).map(drop).unwrap_err().to_string()
    }

    /// A header, one segment and two sections, the second of which takes no room in the file.
    fn elf() -> Vec<u8> {
        let mut image = vec![0; 64 + 56 + 2 * 64 + 10];
        image[..6].copy_from_slice(b"\x7fELF\x02\x01");
        let mut put = |at: usize, value: u64, bytes: usize| {
            image[at..at + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
        };
        for (at, value, bytes) in [(32, 64, 8), (40, 120, 8), (54, 56, 2), (56, 1, 2), (58, 64, 2), (60, 2, 2)] {
            put(at, value, bytes);
        }
        put(64 + 8, 248, 8);
        put(64 + 32, 10, 8);
        put(120 + 4, 1, 4);
        put(120 + 24, 248, 8);
        put(120 + 32, 10, 8);
        put(184 + 4, 8, 4);
        put(184 + 32, 1 << 40, 8);
        image
    }

    #[test]
    fn an_image_cut_anywhere_is_refused() {
        let image = elf();
        assert_eq!(whole(&image).unwrap(), image);
        for cut in 4..image.len() {
            assert!(refusal(&image[..cut]).contains("cut short"), "at {cut}");
        }
        let mut fat = [&[0x50, 0xed, 0x55, 0xba, 1, 0, 16, 0, 20, 0, 0, 0, 0, 0, 0, 0][..], &[7; 20]].concat();
        assert_eq!(whole(&fat).unwrap(), fat);
        for cut in 4..fat.len() {
            assert!(refusal(&fat[..cut]).contains("cut short"), "at {cut}");
        }
        fat[8..16].fill(0xff);
        assert!(refusal(&fat).contains("cut short"), "a length that overflows");
    }

    #[test]
    fn headers_that_point_outside_are_refused() {
        for (at, value) in [(32, u64::MAX), (40, 1 << 62), (72, u64::MAX - 4), (144, 259)] {
            let mut image = elf();
            image[at..at + 8].copy_from_slice(&value.to_le_bytes());
            assert!(refusal(&image).contains("cut short"), "field at {at}");
        }
    }

    #[test]
    fn text_gets_the_zero_that_tells_the_driver_its_end() {
        assert_eq!(*whole(b".version 8.0").unwrap(), *b".version 8.0\0");
        assert!(matches!(whole(b".version 8.0\0").unwrap(), Cow::Borrowed(b".version 8.0\0")));
        assert!(refusal(b".version\x008.0").contains("neither PTX"));
        assert!(refusal(&[0x90; 40]).contains("neither PTX"));
        assert!(refusal(b"").contains("empty") && refusal(b"\0").contains("empty"));
        assert!(refusal(&[0xb1, 0x43, 0x62, 0x46, 1, 0, 0, 0]).contains("wrapper"));
        assert!(refusal(b"\x7fELF\x01\x01").contains("64-bit"));
    }
}
