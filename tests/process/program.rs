//! Runs the program, and talks to it as plainly as can be.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// A folder and an address of a test's own.
pub(crate) struct Scratch {
    pub(crate) address: String,
    second: String,
    folder: PathBuf,
}

impl Scratch {
    pub(crate) fn new() -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let serial = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("sub2api-process-{}-{serial}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [address, second] = listeners.map(|listener| listener.local_addr().unwrap().to_string());
        Scratch { address, second, folder }
    }

    /// Another address, for the admin listener.
    pub(crate) fn second_address(&self) -> String {
        self.second.clone()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn command(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sub2api"));
    command.args(arguments).env_clear().envs(environment.iter().copied()).stdin(Stdio::null());
    command
}

/// Runs the program to its end; its exit code and all that it printed.
pub(crate) fn run(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = command(arguments, environment).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

/// The program, running; ends with the test.
pub(crate) struct Program {
    child: Child,
    log: PathBuf,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    pub(crate) fn start(scratch: &Scratch, arguments: &[&str], environment: &[(&str, &str)]) -> Program {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let log = scratch.path(&format!("log-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        let sink = fs::File::create(&log).unwrap();
        let child = command(arguments, environment).stdout(sink.try_clone().unwrap()).stderr(sink).spawn().unwrap();
        Program { child, log }
    }

    /// Serves this configuration, ready when this returns.
    pub(crate) fn serve(scratch: &Scratch, file: &Path, environment: &[(&str, &str)]) -> Program {
        let program = Program::start(scratch, &["serve", "-c", file.to_str().unwrap()], environment);
        let deadline = Instant::now() + Duration::from_secs(20);
        while get(&scratch.address, "/livez", None).is_err() {
            assert!(Instant::now() < deadline, "it did not start: {}", program.log());
            thread::sleep(Duration::from_millis(10));
        }
        program
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits for the end; the exit code.
    pub(crate) fn wait(&mut self, longest: Duration) -> Option<i32> {
        let deadline = Instant::now() + longest;
        loop {
            match self.child.try_wait().unwrap() {
                Some(status) => return status.code(),
                None if Instant::now() > deadline => return None,
                None => thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

/// Waits until something holds.
pub(crate) fn eventually(longest: Duration, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + longest;
    while !holds() {
        assert!(Instant::now() < deadline, "it never came to hold");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Asks for a path; status and body.
pub(crate) fn get(address: &str, path: &str, key: Option<&str>) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let key = key.map(|key| format!("authorization: Bearer {key}\r\n")).unwrap_or_default();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{key}\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    status.map(|status| (status, body)).ok_or_else(|| std::io::Error::other(text))
}

/// Asks for a stream and reads it to its end.
pub(crate) fn stream(address: &str) -> JoinHandle<String> {
    let address = address.to_owned();
    thread::spawn(move || {
        let body = r#"{"model":"claude-x","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        write!(
            stream,
            "POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: sk-client\r\ncontent-type: application/json\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text);
        text
    })
}

/// An Anthropic upstream that streams this many pieces of text with a pause after each.
pub(crate) fn slow_upstream(pieces: usize, pause: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            thread::spawn(move || answer(stream, pieces, pause));
        }
    });
    url
}

fn answer(mut stream: TcpStream, pieces: usize, pause: Duration) {
    let mut request = vec![0; 65536];
    let _ = stream.read(&mut request);
    let _ = stream.set_nodelay(true);
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let start = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-x\",\"content\":[],\"usage\":{\"input_tokens\":7,\"output_tokens\":1}}}\n\n\
                 event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n";
    let delta = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"x\"}}\n\n";
    let end = "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n\
               event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":3}}\n\n\
               event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    if stream.write_all(head.as_bytes()).is_err() {
        return;
    }
    for text in std::iter::once(start).chain(std::iter::repeat_n(delta, pieces)).chain([end]) {
        if stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).is_err() {
            return;
        }
        thread::sleep(pause);
    }
    let _ = stream.write_all(b"0\r\n\r\n");
}
