//! Which files a text would take from the machine's disk, past the headers that were given. Knows no compiler.
//!
//! NVRTC looks nothing up on the disk when it is told of no folder, but for paths that begin at the root. This finds those that
//! are written out; one that macros put together is beyond a look at the text, and the documentation says so.

/// Each absolute path that `text` includes or asks for, with its line, counted from 1.
pub(crate) fn absolute(text: &[u8]) -> impl Iterator<Item = (u32, &str)> {
    let lines = (1..).zip(text.split(|&byte| byte == b'\n'));
    lines.flat_map(|(number, line)| paths(line).map(move |path| (number, path)))
}

fn paths(line: &[u8]) -> impl Iterator<Item = &str> {
    let directive = line.trim_ascii_start().strip_prefix(b"#").map(<[u8]>::trim_ascii_start);
    let included = directive.and_then(|rest| rest.strip_prefix(b"include"));
    let included = included.map(|rest| rest.strip_prefix(b"_next").unwrap_or(rest));
    included.into_iter().chain(asked(line)).filter_map(path).filter(|path| is_absolute(path))
}

/// What stands behind each `__has_include(` and `__has_include_next(`.
fn asked(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    const ASK: &[u8] = b"__has_include";
    let at = line.windows(ASK.len()).enumerate().filter(|(_, window)| *window == ASK).map(|(at, _)| at);
    at.filter_map(|at| {
        let rest = &line[at + ASK.len()..];
        rest.strip_prefix(b"_next").unwrap_or(rest).trim_ascii_start().strip_prefix(b"(")
    })
}

/// The text in the quotes or brackets that follow.
fn path(rest: &[u8]) -> Option<&str> {
    let rest = rest.trim_ascii_start();
    let closing = match rest.first()? {
        b'"' => b'"',
        b'<' => b'>',
        _ => return None,
    };
    let length = rest[1..].iter().position(|&byte| byte == closing)?;
    std::str::from_utf8(&rest[1..=length]).ok()
}

/// Of the machine that compiles, or of another: neither belongs into a kernel.
fn is_absolute(path: &str) -> bool {
    path.starts_with(['/', '\\']) || path.as_bytes().get(1) == Some(&b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_paths_are_found_where_they_are_included_or_asked_for() {
        let text = b"#include <a.h>\n  # include \"/x/b.h\"\n#include</x/c.h>\nint include; // \"/x/d.h\"\n\
            #if __has_include(\"/x/e.h\") && __has_include ( <f.h> ) || __has_include(<C:/g.h>)\n#include MACRO\n\
            #include_next </x/h.h>\n#include \"dir/i.h\"\n#include \"/x/unclosed.h\n";
        let found: Vec<(u32, &str)> = absolute(text).collect();
        assert_eq!(found, [(2, "/x/b.h"), (3, "/x/c.h"), (5, "/x/e.h"), (5, "C:/g.h"), (7, "/x/h.h")]);
    }
}
