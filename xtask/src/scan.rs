//! Rust source, told apart into code and comments, line by line. Strings lose their content, so
//! that a rule never trips over a word in a message. It knows no grammar beyond that.

/// One line of a source file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Line {
    pub code: String,
    pub comment: String,
}

/// The identifiers and keywords of a piece of code.
pub fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

#[derive(Clone, Copy)]
enum State {
    Code,
    LineComment,
    BlockComment(u32),
    Text,
    RawText(usize),
}

/// Tells code and comments apart.
pub fn lines(source: &str) -> Vec<Line> {
    let chars: Vec<char> = source.chars().collect();
    let (mut lines, mut line) = (Vec::new(), Line::default());
    let (mut state, mut at) = (State::Code, 0);
    while let Some(&c) = chars.get(at) {
        if c == '\n' {
            lines.push(std::mem::take(&mut line));
            if matches!(state, State::LineComment) {
                state = State::Code;
            }
            at += 1;
            continue;
        }
        let (next, length) = step(state, &chars[at..], &line.code);
        match (state, next) {
            (State::Code, State::Code) => line.code.extend(&chars[at..at + length]),
            (State::Code, State::Text | State::RawText(_)) => line.code.push('"'),
            (State::Text | State::RawText(_), State::Code) => line.code.push('"'),
            (State::LineComment | State::BlockComment(_), _) => line.comment.push(c),
            _ => {}
        }
        (state, at) = (next, at + length);
    }
    if line != Line::default() {
        lines.push(line);
    }
    lines
}

/// The state after the characters at the start of `rest`, and how many these are.
fn step(state: State, rest: &[char], code: &str) -> (State, usize) {
    let two = (rest[0], rest.get(1).copied().unwrap_or('\n'));
    match state {
        State::Code => code_step(rest, two, code),
        State::LineComment => (state, 1),
        State::BlockComment(depth) => match two {
            ('/', '*') => (State::BlockComment(depth + 1), 2),
            ('*', '/') if depth == 1 => (State::Code, 2),
            ('*', '/') => (State::BlockComment(depth - 1), 2),
            _ => (state, 1),
        },
        State::Text => match two {
            // An escaped end of line stays: the line must be counted.
            ('\\', '\n') => (state, 1),
            ('\\', _) => (state, 2),
            ('"', _) => (State::Code, 1),
            _ => (state, 1),
        },
        State::RawText(hashes) => {
            let closed = rest[0] == '"' && hashes_at(&rest[1..]) >= hashes;
            if closed { (State::Code, 1 + hashes) } else { (state, 1) }
        }
    }
}

fn code_step(rest: &[char], two: (char, char), code: &str) -> (State, usize) {
    match two {
        ('/', '/') => (State::LineComment, 2),
        ('/', '*') => (State::BlockComment(1), 2),
        ('"', _) => (State::Text, 1),
        ('r', '"' | '#') if !ends_in_name(code) => {
            let hashes = hashes_at(&rest[1..]);
            match rest.get(1 + hashes) {
                Some('"') => (State::RawText(hashes), 2 + hashes),
                _ => (State::Code, 1),
            }
        }
        ('\'', '\\') => {
            // `'\''` has its end behind the escaped character.
            let end = rest.iter().skip(3).position(|c| *c == '\'');
            (State::Code, end.map_or(1, |end| end + 4))
        }
        ('\'', _) if rest.get(2) == Some(&'\'') => (State::Code, 3),
        _ => (State::Code, 1),
    }
}

fn hashes_at(rest: &[char]) -> usize {
    rest.iter().take_while(|c| **c == '#').count()
}

/// Whether the code so far ends within a name, `b` and `c` before a raw string left aside.
fn ends_in_name(code: &str) -> bool {
    let last = words(code).last().unwrap_or_default();
    code.ends_with(|c: char| c.is_alphanumeric() || c == '_') && last != "b" && last != "c"
}

/// A function: its name, its first line from 1, and how many lines it has.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    pub line: usize,
    pub length: usize,
}

/// The functions with a body, in the order of their ends.
pub fn functions(lines: &[Line]) -> Vec<Function> {
    let (mut found, mut open, mut pending) = (Vec::new(), Vec::new(), None);
    let mut brackets = 0_i64;
    for (number, line) in (1..).zip(lines) {
        let mut starts = starts(&line.code).into_iter().peekable();
        for (at, c) in line.code.char_indices() {
            if let Some((_, name)) = starts.next_if(|(start, _)| *start == at) {
                (pending, brackets) = (Some((name, number)), 0);
            }
            match c {
                '(' | '[' => brackets += 1,
                ')' | ']' => brackets -= 1,
                // A signature alone; the `;` of an array type stands inside brackets.
                ';' if brackets == 0 => pending = None,
                '{' if brackets > 0 => open.push(None),
                '{' => open.push(pending.take()),
                '}' => {
                    if let Some((name, line)) = open.pop().flatten() {
                        found.push(Function { name, line, length: number - line + 1 });
                    }
                }
                _ => {}
            }
        }
    }
    found
}

/// Where `fn NAME` stands in a line.
fn starts(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let name = words(&code[at + 3..]).next().unwrap_or_default();
        let follows = code[at + 3..].trim_start().starts_with(name) && !name.is_empty();
        let in_name = code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        if follows && !in_name {
            found.push((at, name.to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(source: &str) -> String {
        lines(source).into_iter().map(|line| line.code).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn strings_and_comments_are_no_code() {
        assert_eq!(code("a(\"// {\"); // b"), "a(\"\"); ");
        assert_eq!(code("a /* b /* c */ d */ e"), "a  e");
        assert_eq!(code("r#\"x\"y\"# + br\"z\" + r#fn"), "\"\" + b\"\" + r#fn");
        assert_eq!(code("'\\'' '\"' &'a str '{'"), "'\\'' '\"' &'a str '{'");
        assert_eq!(code("\"a\\\n b\" c"), "\"\n\" c");
    }

    #[test]
    fn comments_are_kept_apart() {
        let found = lines("x // why\n/* a\nb */ y");
        assert_eq!(found[0].comment.trim(), "why");
        assert_eq!(found[1].comment.trim(), "a");
        assert_eq!((found[2].comment.trim(), found[2].code.trim()), ("b *", "y"));
    }

    #[test]
    fn functions_have_lengths() {
        let source = "impl A {\n  fn one(a: [u8; 2]) -> u8 {\n    if b { c }\n  }\n  fn two();\n}\n\
                      fn three() { fn inner() {\n} }\nlet f: fn(u8) = |x| {\n};";
        let found: Vec<_> =
            functions(&lines(source)).into_iter().map(|f| (f.name, f.line, f.length)).collect();
        let expected = [("one", 2, 3), ("inner", 7, 2), ("three", 7, 2)];
        assert_eq!(found, expected.map(|(name, line, length)| (name.to_owned(), line, length)));
    }
}
