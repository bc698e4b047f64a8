//! What the tokens of a file say: which paths start at the crate root, and which code is for tests.

use crate::source::{SourceFile, Token, tokens};
use std::collections::BTreeSet;

/// The files that reach a build without tests, each with the tokens that do.
pub fn production_files(files: &[SourceFile]) -> impl Iterator<Item = (&SourceFile, Vec<Token<'_>>)> {
    let mut for_tests = BTreeSet::new();
    for file in files {
        for declared in test_modules(&tokens(&file.text)).iter().filter(|module| module.out_of_line) {
            for_tests.insert([file.module(), vec![declared.name]].concat());
        }
    }
    files
        .iter()
        .filter(move |file| !for_tests.iter().any(|module| file.module().starts_with(module)))
        .map(|file| (file, without_final_tests(&tokens(&file.text)).to_vec()))
}

/// Of every path that starts with `crate::`, or with a chain of `super::` that ends at the root, the
/// name that comes next and its line; of a brace group the first name of each branch.
pub fn names_after_the_root<'a>(tokens: &[Token<'a>], file_module: &[&str]) -> Vec<(usize, &'a str)> {
    let mut found = Vec::new();
    let mut braces = 0;
    let mut inline_modules = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match token.text {
            "{" => {
                if at >= 2 && tokens[at - 2].text == "mod" {
                    inline_modules.push(braces);
                }
                braces += 1;
            }
            "}" => {
                braces -= 1;
                if inline_modules.last() == Some(&braces) {
                    inline_modules.pop();
                }
            }
            "crate" if is_path_separator(tokens, at + 1) => first_names(tokens, at + 3, &mut found),
            "super" if is_path_separator(tokens, at + 1) => {
                let chain =
                    (0..).step_by(3).take_while(|back| at >= *back && tokens[at - back].text == "super").count();
                if chain == file_module.len() + inline_modules.len()
                    && tokens.get(at + 3).is_some_and(|next| next.text != "super")
                {
                    first_names(tokens, at + 3, &mut found);
                }
            }
            _ => {}
        }
    }
    found
}

fn first_names<'a>(tokens: &[Token<'a>], at: usize, found: &mut Vec<(usize, &'a str)>) {
    let Some(first) = tokens.get(at) else { return };
    if first.text != "{" {
        found.push((first.line, first.text));
        return;
    }
    let mut depth = 0;
    let mut starts_a_branch = false;
    for token in &tokens[at..] {
        match token.text {
            "{" => {
                depth += 1;
                starts_a_branch = depth == 1;
            }
            "}" if depth == 1 => return,
            "}" => depth -= 1,
            "," => starts_a_branch = depth == 1,
            name => {
                if starts_a_branch {
                    found.push((token.line, name));
                }
                starts_a_branch = false;
            }
        }
    }
}

fn is_path_separator(tokens: &[Token<'_>], at: usize) -> bool {
    texts_at(tokens, at, &[":", ":"])
}

fn texts_at(tokens: &[Token<'_>], at: usize, texts: &[&str]) -> bool {
    tokens.len() >= at + texts.len() && tokens[at..].iter().zip(texts).all(|(token, text)| token.text == *text)
}

/// The tokens before the test modules that end the file.
fn without_final_tests<'t, 'a>(tokens: &'t [Token<'a>]) -> &'t [Token<'a>] {
    let mut end = tokens.len();
    for module in test_modules(tokens).iter().rev() {
        if module.end != end || module.out_of_line {
            break;
        }
        end = module.start;
    }
    &tokens[..end]
}

struct TestModule<'a> {
    name: &'a str,
    start: usize,
    end: usize,
    out_of_line: bool,
}

/// The modules, outside every brace, that a `cfg` leaves out of all builds but the tests.
fn test_modules<'a>(tokens: &[Token<'a>]) -> Vec<TestModule<'a>> {
    let mut modules = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at].text == "{" {
            at = after_group(tokens, at);
            continue;
        }
        let start = at;
        let mut only_for_tests = false;
        while texts_at(tokens, at, &["#", "["]) {
            let end = after_group(tokens, at + 1);
            only_for_tests |= is_cfg_test(&tokens[at + 2..end - 1]);
            at = end;
        }
        if texts_at(tokens, at, &["pub"]) {
            at += 1;
            if texts_at(tokens, at, &["("]) {
                at = after_group(tokens, at);
            }
        }
        if only_for_tests && texts_at(tokens, at, &["mod"]) && at + 2 < tokens.len() {
            let out_of_line = tokens[at + 2].text == ";";
            let end = if out_of_line { at + 3 } else { after_group(tokens, at + 2) };
            modules.push(TestModule { name: tokens[at + 1].text, start, end, out_of_line });
            at = end;
        } else if at == start {
            at += 1;
        }
    }
    modules
}

/// `cfg(test)` or `cfg(all(.., test, ..))`; not `cfg(any(test, ..))`, which other builds meet too.
fn is_cfg_test(attribute: &[Token<'_>]) -> bool {
    let direct = texts_at(attribute, 0, &["cfg", "(", "test", ")"]);
    let mut depth = 0;
    let among_all = texts_at(attribute, 0, &["cfg", "(", "all", "("])
        && attribute.iter().any(|token| {
            match token.text {
                "(" => depth += 1,
                ")" => depth -= 1,
                _ => {}
            }
            depth == 2 && token.text == "test"
        });
    direct || among_all
}

/// The position after the group that opens at `at`.
fn after_group(tokens: &[Token<'_>], at: usize) -> usize {
    let mut depth = 0;
    for (offset, token) in tokens[at..].iter().enumerate() {
        match token.text {
            "{" | "[" | "(" => depth += 1,
            "}" | "]" | ")" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + offset + 1;
        }
    }
    tokens.len()
}

/// True if `#![expect(unsafe_code, reason = "..")]` is among the attributes that open the file.
pub fn opens_with_expect_unsafe(tokens: &[Token<'_>]) -> bool {
    let mut at = 0;
    while texts_at(tokens, at, &["#", "!", "["]) {
        if texts_at(tokens, at + 3, &["expect", "(", "unsafe_code", ",", "reason", "="]) {
            return true;
        }
        at = after_group(tokens, at + 2);
    }
    false
}
