//! SmolLM2 without its cache, out of libkvc_smollm: smollm.h tells what each call does.

use std::ffi::{c_char, CStr, CString};

/// The functions and the struct of smollm.h; a test below compares them with it.
mod smollm {
    use std::ffi::c_char;

    #[repr(C)]
    pub struct Model {
        opaque: [u8; 0],
    }

    #[repr(C)]
    #[derive(Clone, Copy, Debug, Default)]
    pub struct Shape {
        pub layers: i64,
        pub width: i64,
        pub q_heads: i64,
        pub kv_heads: i64,
        pub head_dim: i64,
        pub vocabulary: i64,
        pub context_tokens: i64,
        pub end_token: i64,
        pub prompt_bytes: i64,
    }

    pub const TEXT_BYTES: usize = 1024;

    extern "C" {
        pub fn smollm_open(folder: *const c_char, threads: i64, message: *mut c_char, message_bytes: i64) -> *mut Model;
        pub fn smollm_close(model: *mut Model);
        pub fn smollm_shape_get(model: *const Model, out: *mut Shape);
        pub fn smollm_encode(model: *const Model, text: *const c_char, text_bytes: i64, out: *mut i64, capacity: i64) -> i64;
        pub fn smollm_text(model: *const Model, token: i64, pending: *mut u8, out: *mut c_char, capacity: i64) -> i64;
        pub fn smollm_embed(model: *mut Model, tokens: *const i64, n: i64, x: *mut f32) -> i64;
        pub fn smollm_project(
            model: *mut Model,
            layer: i64,
            x: *const f32,
            positions: *const i64,
            n: i64,
            q: *mut f32,
            k: *mut f32,
            v: *mut f32,
        ) -> i64;
        pub fn smollm_mix(model: *mut Model, layer: i64, x: *mut f32, attended: *const f32, n: i64) -> i64;
        pub fn smollm_choose(model: *mut Model, x: *const f32, rows: *const i64, n_rows: i64, out: *mut i64) -> i64;
    }
}

/// The model; it is closed when it is dropped.
pub struct Model {
    handle: *mut smollm::Model,
    pub shape: smollm::Shape,
}

// The tokenizer's calls run side by side, and those that compute wait for each other.
unsafe impl Send for Model {}
unsafe impl Sync for Model {}

/// Bytes of a character that is not complete yet; zero at the beginning of a text.
pub type Pending = [u8; 8];

/// A call that the model's library refused.
pub type Result<T> = std::result::Result<T, String>;

fn check(call: &str, status: i64) -> Result<()> {
    (status == 0).then_some(()).ok_or_else(|| format!("model: {call} was refused"))
}

impl Model {
    /// Maps the files in a folder; so many threads compute, the calling one included.
    pub fn open(folder: &str, threads: i64) -> Result<Model> {
        let path = CString::new(folder).map_err(|_| format!("{folder:?} has a NUL inside"))?;
        let mut message: [c_char; 256] = [0; 256];
        let handle = unsafe { smollm::smollm_open(path.as_ptr(), threads - 1, message.as_mut_ptr(), message.len() as i64) };
        if handle.is_null() {
            return Err(unsafe { CStr::from_ptr(message.as_ptr()) }.to_string_lossy().into_owned());
        }
        let mut shape = smollm::Shape::default();
        unsafe { smollm::smollm_shape_get(handle, &mut shape) };
        Ok(Model { handle, shape })
    }

    pub fn width(&self) -> usize {
        self.shape.width as usize
    }

    /// Numbers of a token's queries.
    pub fn q_width(&self) -> usize {
        (self.shape.q_heads * self.shape.head_dim) as usize
    }

    /// Numbers of a token's keys, and as many of its values.
    pub fn kv_width(&self) -> usize {
        (self.shape.kv_heads * self.shape.head_dim) as usize
    }

    /// The tokens of a text.
    pub fn encode(&self, text: &str) -> Result<Vec<i64>> {
        let mut tokens = vec![0; text.len() + 1];
        let (bytes, capacity) = (text.len() as i64, tokens.len() as i64);
        let n = unsafe { smollm::smollm_encode(self.handle, text.as_ptr().cast(), bytes, tokens.as_mut_ptr(), capacity) };
        tokens.truncate(usize::try_from(n).map_err(|_| "encode: out of memory")?);
        Ok(tokens)
    }

    /// The whole characters that one more token completes; token -1 ends the text.
    pub fn text(&self, token: i64, pending: &mut Pending) -> String {
        let mut text = [0u8; smollm::TEXT_BYTES];
        let capacity = text.len() as i64;
        let n = unsafe { smollm::smollm_text(self.handle, token, pending.as_mut_ptr(), text.as_mut_ptr().cast(), capacity) };
        String::from_utf8_lossy(&text[..n.max(0) as usize]).into_owned()
    }

    /// Begins a pass: x `[tokens, width]`. The library sees addresses alone: that buffers have their sizes is checked here.
    pub fn embed(&self, tokens: &[i64], x: &mut [f32]) -> Result<()> {
        assert_eq!(x.len(), tokens.len() * self.width());
        check("embed", unsafe { smollm::smollm_embed(self.handle, tokens.as_ptr(), tokens.len() as i64, x.as_mut_ptr()) })
    }

    /// Makes queries, keys and values of one layer.
    pub fn project(&self, layer: i64, x: &[f32], positions: &[i64], q: &mut [f32], k: &mut [f32], v: &mut [f32]) -> Result<()> {
        let n = positions.len();
        assert_eq!((x.len(), q.len()), (n * self.width(), n * self.q_width()));
        assert_eq!((k.len(), v.len()), (n * self.kv_width(), n * self.kv_width()));
        let (q, k, v) = (q.as_mut_ptr(), k.as_mut_ptr(), v.as_mut_ptr());
        let status = unsafe { smollm::smollm_project(self.handle, layer, x.as_ptr(), positions.as_ptr(), n as i64, q, k, v) };
        check("project", status)
    }

    /// Adds attention and the rest of the layer to x.
    pub fn mix(&self, layer: i64, x: &mut [f32], attended: &[f32]) -> Result<()> {
        let n = attended.len() / self.q_width();
        assert_eq!((x.len(), attended.len()), (n * self.width(), n * self.q_width()));
        check("mix", unsafe { smollm::smollm_mix(self.handle, layer, x.as_mut_ptr(), attended.as_ptr(), n as i64) })
    }

    /// The most likely token after each of some rows of x.
    pub fn choose(&self, x: &[f32], rows: &[i64], out: &mut [i64]) -> Result<()> {
        let n = (x.len() / self.width()) as i64;
        assert!(rows.len() == out.len() && rows.iter().all(|row| (0..n).contains(row)));
        let count = rows.len() as i64;
        check("choose", unsafe { smollm::smollm_choose(self.handle, x.as_ptr(), rows.as_ptr(), count, out.as_mut_ptr()) })
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        unsafe { smollm::smollm_close(self.handle) }
    }
}

#[cfg(test)]
mod tests {
    const HEADER: &str = include_str!("../../model/smollm.h");
    const HERE: &str = include_str!("model.rs");

    /// Names and kinds of a declaration's members: "const char* folder, int64_t threads" or "folder: *const c_char, threads: i64".
    fn members(list: &str, separator: char) -> Vec<String> {
        let members = list.split(separator).map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
        members.filter(|text| !text.is_empty()).collect()
    }

    fn between<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
        let (_, rest) = text.split_once(begin).unwrap_or_else(|| panic!("{begin} is missing"));
        rest.split_once(end).expect("an end").0
    }

    /// A parameter of C as Rust writes it.
    fn in_rust(parameter: &str) -> String {
        if parameter == "uint8_t pending[8]" {
            return "pending: *mut u8".into();
        }
        let (kind, name) = parameter.rsplit_once(' ').expect("a kind and a name");
        let (pointed, constant) = kind.strip_prefix("const ").map_or((kind, "mut"), |kind| (kind, "const"));
        let plain = match pointed.trim_end_matches('*') {
            "char" => "c_char",
            "int64_t" => "i64",
            "float" => "f32",
            "smollm" => "Model",
            "smollm_shape" => "Shape",
            other => panic!("what is {other}?"),
        };
        if pointed.ends_with('*') {
            format!("{name}: *{constant} {plain}")
        } else {
            format!("{name}: {plain}")
        }
    }

    /// That of C, behind the comment that also names functions.
    fn declarations() -> &'static str {
        HEADER.split_once("#define SMOLLM_H").expect("a guard").1
    }

    #[test]
    fn declarations_are_those_of_the_header() {
        let mut functions = 0;
        for line in HERE.lines().filter_map(|line| line.trim().strip_prefix("pub fn smollm_")) {
            let name = format!("smollm_{}(", line.split_once('(').expect("parameters").0);
            let expected: Vec<_> = members(between(declarations(), &name, ");"), ',').iter().map(|one| in_rust(one)).collect();
            assert_eq!(members(between(HERE, &format!("pub fn {name}"), ")"), ','), expected, "{name}");
            functions += 1;
        }
        assert_eq!(functions, 9);
        let comments_off: String = between(HEADER, "typedef struct smollm_shape {", "}")
            .split("/*")
            .enumerate()
            .fold(String::new(), |text, (i, part)| text + if i == 0 { part } else { part.split_once("*/").expect("an end").1 });
        let fields = comments_off.replace("int64_t", "").replace(';', ",");
        let expected: Vec<_> = members(&fields, ',').iter().map(|name| format!("pub {name}: i64")).collect();
        assert_eq!(members(between(HERE, "pub struct Shape {", "}"), ','), expected);
        assert!(HEADER.contains(&format!("#define SMOLLM_TEXT_BYTES {}\n", super::smollm::TEXT_BYTES)));
    }
}
