//! The grammar of a configuration file: text in, a tree of directives out, errors with file, line and
//! column. It resolves `include`, and knows no other name.
//!
//! nginx-like, with the rules of SRS: name and arguments of a directive, up to its `;` or `{`, stand on
//! one line; `}` and `#` inside a word belong to the word; quotes know no escapes.

use std::{
    fmt, io,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Files that include files that include files: the deepest chain we follow.
const INCLUDE_DEPTH_MAX: usize = 16;
/// Files of one configuration, all includes together.
const FILES_MAX: usize = 1024;
/// Blocks within blocks. SRS itself needs five.
const BLOCK_DEPTH_MAX: usize = 32;
/// Bytes of one file.
const FILE_LEN_MAX: u64 = 4 << 20;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Directive {
    pub name: String,
    pub args: Vec<String>,
    /// `None` for `name args;`, the contents for `name args { .. }`.
    pub children: Option<Vec<Directive>>,
    pub place: Place,
}

/// Where a directive stands: `conf/srs.conf:12:5`, or the name of an environment variable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// Line and column count from 1, columns in bytes.
    File {
        file: Arc<str>,
        line: u32,
        column: u32,
    },
    Env(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Self::Env(name) => f.write_str(name),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SyntaxError {
    #[error("no config file at {}", path.display())]
    Missing { path: PathBuf },
    #[error("cannot read {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{place}: {fault}")]
    At { place: Place, fault: Fault },
}

/// What is wrong at a place, in the words of SRS where it has some.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("unexpected end of file, expecting ; or \"}}\"")]
    EndInDirective,
    #[error("unexpected end of file, expecting \"}}\"")]
    EndInBlock,
    #[error("unexpected end of line to parse token {0}")]
    EndOfLine(String),
    #[error("unexpected \"}}\"")]
    StrayClose,
    #[error("unexpected '{0}'")]
    Unexpected(char),
    #[error("empty directive")]
    Empty,
    #[error("include is empty directive")]
    IncludeEmpty,
    #[error("cannot read {}: {source}", path.display())]
    Include { path: PathBuf, source: io::Error },
    #[error("includes nest deeper than {INCLUDE_DEPTH_MAX}")]
    IncludeTooDeep,
    #[error("more than {FILES_MAX} files")]
    TooManyFiles,
    #[error("blocks nest deeper than {BLOCK_DEPTH_MAX}")]
    BlockTooDeep,
}

/// The directives of a file and of all it includes. Relative paths start at `folder`, those of includes too.
pub fn parse_file(path: &Path, folder: &Path) -> Result<Vec<Directive>, SyntaxError> {
    let text = read(&folder.join(path)).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => SyntaxError::Missing { path: path.into() },
        _ => SyntaxError::Unreadable { path: path.into(), source },
    })?;
    Parser::new(&path.display().to_string(), &text, folder, 1, &mut 1).file()
}

/// The same for a text at hand; `file` is its name in errors.
pub fn parse_text(file: &str, text: &[u8]) -> Result<Vec<Directive>, SyntaxError> {
    Parser::new(file, text, Path::new(""), 1, &mut 1).file()
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(FILE_LEN_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > FILE_LEN_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {FILE_LEN_MAX} bytes")));
    }
    Ok(text)
}

struct Parser<'a> {
    rest: &'a [u8],
    file: Arc<str>,
    line: u32,
    column: u32,
    /// Where relative paths start.
    folder: &'a Path,
    /// Place of this file in its chain of includes, from 1.
    depth: usize,
    /// Files opened so far.
    files: &'a mut usize,
}

/// What the words of a directive end with, or what stands in place of a directive.
enum Token {
    Line(Vec<String>, Place),
    Open(Vec<String>, Place),
    Close(Place),
    End,
}

/// Where `next` is between two bytes.
enum State {
    Between,
    Word,
    Quoted(u8),
    /// Behind a closing quote.
    Closed,
    Comment,
}

impl<'a> Parser<'a> {
    fn new(file: &str, text: &'a [u8], folder: &'a Path, depth: usize, files: &'a mut usize) -> Self {
        Self { rest: text, file: file.into(), line: 1, column: 1, folder, depth, files }
    }

    fn file(mut self) -> Result<Vec<Directive>, SyntaxError> {
        self.block(0)
    }

    /// Directives up to the `}` of this block, or up to the end of the file at depth 0.
    fn block(&mut self, depth: usize) -> Result<Vec<Directive>, SyntaxError> {
        let mut block = Vec::new();
        loop {
            let (words, place, open) = match self.next()? {
                Token::Line(words, place) => (words, place, false),
                Token::Open(words, place) => (words, place, true),
                Token::Close(place) if depth == 0 => return fault(place, Fault::StrayClose),
                Token::End if depth > 0 => return fault(self.place(), Fault::EndInBlock),
                Token::Close(_) | Token::End => return Ok(block),
            };
            let mut words = words.into_iter();
            let Some(name) = words.next() else { return fault(place, Fault::Empty) };
            if name == "include" {
                // A block behind an include is not opened, so its `}` ends up as a stray one.
                self.include(words.collect(), &place, &mut block)?;
                continue;
            }
            let children = match open {
                true if depth == BLOCK_DEPTH_MAX => return fault(place, Fault::BlockTooDeep),
                true => Some(self.block(depth + 1)?),
                false => None,
            };
            block.push(Directive { name, args: words.collect(), children, place });
        }
    }

    fn include(&mut self, paths: Vec<String>, place: &Place, block: &mut Vec<Directive>) -> Result<(), SyntaxError> {
        if paths.is_empty() {
            return fault(place.clone(), Fault::IncludeEmpty);
        }
        if self.depth == INCLUDE_DEPTH_MAX {
            return fault(place.clone(), Fault::IncludeTooDeep);
        }
        for file in paths {
            *self.files += 1;
            if *self.files > FILES_MAX {
                return fault(place.clone(), Fault::TooManyFiles);
            }
            let path = PathBuf::from(&file);
            match read(&self.folder.join(&path)) {
                Ok(text) => block.extend(Parser::new(&file, &text, self.folder, self.depth + 1, self.files).file()?),
                Err(source) => return fault(place.clone(), Fault::Include { path, source }),
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Token, SyntaxError> {
        let mut words: Vec<String> = Vec::new();
        let mut word: Vec<u8> = Vec::new();
        let mut state = State::Between;
        let mut start = None;
        loop {
            let here = self.place();
            let Some(byte) = self.bump() else {
                return match state {
                    State::Between | State::Comment if words.is_empty() => Ok(Token::End),
                    _ => fault(here, Fault::EndInDirective),
                };
            };
            let blank = matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
            match state {
                State::Comment if byte != b'\n' => continue,
                // The first word may hold line ends within its quotes, nothing else may.
                State::Quoted(quote) if byte != quote && (byte != b'\n' || words.is_empty()) => {
                    word.push(byte);
                    continue;
                }
                State::Quoted(quote) if byte == quote => {
                    if !word.is_empty() {
                        words.push(text(&mut word));
                    }
                    state = State::Closed;
                    continue;
                }
                State::Word if !blank && byte != b';' && byte != b'{' => {
                    word.push(byte);
                    continue;
                }
                State::Word => words.push(text(&mut word)),
                State::Closed if !blank && byte != b';' && byte != b'{' => {
                    return fault(here, Fault::Unexpected(byte.into()));
                }
                State::Closed if !blank && words.is_empty() => return fault(here, Fault::Empty),
                _ => {}
            }
            state = State::Between;
            match byte {
                b'\n' => {
                    if let Some(name) = words.first() {
                        return fault(here, Fault::EndOfLine(name.clone()));
                    }
                }
                b' ' | b'\t' | b'\r' => {}
                b';' | b'{' if words.is_empty() => return fault(here, Fault::Unexpected(byte.into())),
                b';' => return Ok(Token::Line(words, start.unwrap_or(here))),
                b'{' => return Ok(Token::Open(words, start.unwrap_or(here))),
                b'}' if words.is_empty() => return Ok(Token::Close(here)),
                b'}' => return fault(here, Fault::Unexpected('}')),
                b'#' => state = State::Comment,
                _ => {
                    start.get_or_insert(here);
                    state = match byte {
                        b'"' | b'\'' => State::Quoted(byte),
                        _ => {
                            word.push(byte);
                            State::Word
                        }
                    };
                }
            }
        }
    }

    fn bump(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        // FILE_LEN_MAX keeps both far below u32::MAX.
        match byte {
            b'\n' => (self.line, self.column) = (self.line + 1, 1),
            _ => self.column += 1,
        }
        Some(byte)
    }

    fn place(&self) -> Place {
        Place::File { file: self.file.clone(), line: self.line, column: self.column }
    }
}

fn fault<T>(place: Place, fault: Fault) -> Result<T, SyntaxError> {
    Err(SyntaxError::At { place, fault })
}

/// Takes the bytes of a word. Files from before UTF-8 hold other encodings, mostly in comments.
fn text(word: &mut Vec<u8>) -> String {
    String::from_utf8_lossy(&std::mem::take(word)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<Directive>, String> {
        parse_text("t", text.as_bytes()).map_err(|e| e.to_string())
    }

    /// A tree in one line: `name(arg,arg){child ..}`.
    fn show(block: &[Directive]) -> String {
        let one = |d: &Directive| {
            let args = if d.args.is_empty() { String::new() } else { format!("({})", d.args.join(",")) };
            let children = d.children.as_ref().map_or(String::new(), |c| format!("{{{}}}", show(c)));
            format!("{}{args}{children}", d.name)
        };
        block.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn reads_what_srs_reads() {
        for (text, tree) in [
            ("", ""),
            ("# only a comment", ""),
            ("listen 1935;", "listen(1935)"),
            ("a;b;", "a b"),
            ("\r\n\ta  b\tc ; ", "a(b,c)"),
            ("vhost v { play{ gop_cache on; } }", "vhost(v){play{gop_cache(on)}}"),
            ("v{\n}\n", "v{}"),
            ("v { a b; # why\n# more\n}#end", "v{a(b)}"),
            ("u http://x/#y;", "u(http://x/#y)"),
            ("a b}c;", "a(b}c)"),
            ("a x\"y\"z;", "a(x\"y\"z)"),
            ("a \"b c;{}#\" 'd \"e';", "a(b c;{}#,d \"e)"),
            ("a \"\" b;", "a(b)"),
            ("a \"b\"{ }", "a(b){}"),
            ("\"a\nb\" c;", "a\nb(c)"),
        ] {
            assert_eq!(parse(text).as_deref().map(show), Ok(tree.to_string()), "{text:?}");
        }
    }

    #[test]
    fn refuses_what_srs_refuses() {
        for (text, error) in [
            ("}", "t:1:1: unexpected \"}\""),
            ("a { b; }\n }", "t:2:2: unexpected \"}\""),
            ("a {\n b;\n", "t:3:1: unexpected end of file, expecting \"}\""),
            ("a", "t:1:2: unexpected end of file, expecting ; or \"}\""),
            ("a b # c", "t:1:8: unexpected end of file, expecting ; or \"}\""),
            ("a \"b", "t:1:5: unexpected end of file, expecting ; or \"}\""),
            ("a b\n;", "t:1:4: unexpected end of line to parse token a"),
            ("a b # why\n;", "t:1:10: unexpected end of line to parse token a"),
            ("vhost v\n{ }", "t:1:8: unexpected end of line to parse token vhost"),
            ("a \"b\nc\";", "t:1:5: unexpected end of line to parse token a"),
            (";", "t:1:1: unexpected ';'"),
            ("a;;", "t:1:3: unexpected ';'"),
            ("{ }", "t:1:1: unexpected '{'"),
            ("v { a b }", "t:1:9: unexpected '}'"),
            ("a \"b\"c;", "t:1:6: unexpected 'c'"),
            ("a \"b\"}", "t:1:6: unexpected '}'"),
            ("\"\";", "t:1:3: empty directive"),
            ("include;", "t:1:1: include is empty directive"),
            ("include /nowhere/x;", "t:1:1: cannot read /nowhere/x: No such file or directory (os error 2)"),
        ] {
            assert_eq!(parse(text).map(|t| show(&t)), Err(error.to_string()), "{text:?}");
        }
        let deep = "a{".repeat(33) + &"}".repeat(33);
        assert_eq!(parse(&deep).map(|t| show(&t)), Err("t:1:65: blocks nest deeper than 32".into()));
        assert!(parse(&("a{".repeat(32) + &"}".repeat(32))).is_ok());
    }

    #[test]
    fn every_cut_and_flip_ends_without_a_panic() {
        let text = b"listen 1935 '[::]:1935'; # x\nvhost v { play{ gop_cache \"on\"; } }\n";
        for n in 0..text.len() {
            let _ = parse_text("t", &text[..n]);
            for bit in 0..8 {
                let mut flipped = text.to_vec();
                flipped[n] ^= 1 << bit;
                let _ = parse_text("t", &flipped);
            }
        }
    }

    #[test]
    fn includes_splice_in_and_keep_their_own_places() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let write = |name: &str, text: String| std::fs::write(path(name), text).unwrap();
        write("play", "play { }\n  enabled off;".into());
        write("more", "a; b;".into());
        let tree = parse(&format!("v {{ include {} {}; c; }}", path("play"), path("more"))).unwrap();
        assert_eq!(show(&tree), "v{play{} enabled(off) a b c}");
        let enabled = &tree[0].children.as_ref().unwrap()[1];
        assert_eq!(enabled.place.to_string(), format!("{}:2:3", path("play")));

        let error = parse(&format!("include {} {{ }}", path("more"))).unwrap_err();
        assert!(error.ends_with("unexpected \"}\""), "{error}");
        write("open", "v {".into());
        let error = parse(&format!("include {}; }}", path("open"))).unwrap_err();
        assert_eq!(error, format!("{}:1:4: unexpected end of file, expecting \"}}\"", path("open")));
    }

    #[test]
    fn includes_end() {
        let dir = tempfile::tempdir().unwrap();
        let me = dir.path().join("me").display().to_string();
        std::fs::write(&me, format!("include {me};")).unwrap();
        let error = parse_file(Path::new(&me), Path::new("")).unwrap_err().to_string();
        assert_eq!(error, format!("{me}:1:1: includes nest deeper than 16"));

        // Sixteen levels are fine, but not when each doubles the number of files.
        for n in 0..16 {
            let next = if n == 15 { "a;".into() } else { format!("include {0}{1} {0}{1};", me, n + 1) };
            std::fs::write(format!("{me}{n}"), next).unwrap();
        }
        let error = parse_file(Path::new(&format!("{me}0")), Path::new("")).unwrap_err().to_string();
        assert!(error.ends_with("more than 1024 files"), "{error}");
    }

    #[test]
    fn a_missing_file_and_an_unreadable_one_are_named() {
        let error = parse_file(Path::new("/nowhere/srs.conf"), Path::new("")).unwrap_err();
        assert_eq!(error.to_string(), "no config file at /nowhere/srs.conf");
        let error = parse_file(Path::new("/"), Path::new("")).unwrap_err();
        assert_eq!(error.to_string(), "cannot read /: Is a directory (os error 21)");
    }
}
