//! One session channel: bytes in, bytes out, and the end of it.
//!
//! Four things go on at once: messages of the client are taken as they come (never held back, see [`super::gate`]),
//! input is fed to the program, its output is sent as the client's window allows, and its end is awaited. The session
//! is over when the program has ended *and* its output is through; a background child that still holds the pipe gets
//! [`GRACE`] after the last byte, no more.

use super::child::{End, Group, Running, Streams, number_of};
use super::gate::Gate;
use super::hold::Hold;
use super::pty::{Master, Size};
use bytes::Bytes;
use russh::server::{Handle, Msg};
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use std::collections::VecDeque;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{sleep, timeout};

/// How long output may be silent after the program's end before it is taken for complete.
const GRACE: Duration = Duration::from_millis(700);

/// Input that may wait for one program when the gate has to stay open because its output waits as well.
const MOST_INPUT: usize = 32 << 20;

/// Bytes read from a program at a time.
const CHUNK: usize = 32 << 10;

/// What the connection hands over when the client has said what to run.
#[derive(Debug)]
pub struct Start {
    /// The program.
    pub running: Running,
    /// Keeps the boot from going on, as long as the session lasts.
    pub hold: Hold,
}

/// What waits for the program's standard input.
#[derive(Debug)]
struct Input {
    gate: Arc<Gate>,
    state: Mutex<Waiting>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    data: VecDeque<Bytes>,
    bytes: usize,
    ended: bool,
    unwanted: bool,
}

/// Why the messages of the client came to an end.
#[derive(Debug, PartialEq, Eq)]
enum Gone {
    /// The channel or the connection is closed.
    Closed,
    /// More input than can be kept.
    Flooded,
}

/// Serves a channel from its opening to its end.
pub async fn serve(channel: Channel<Msg>, handle: Handle, gate: Arc<Gate>, start: oneshot::Receiver<Start>) {
    let (mut read, write) = channel.split();
    let input = Input {
        gate: Arc::clone(&gate),
        state: Mutex::default(),
        news: Notify::new(),
    };
    let terminal = watch::Sender::new(None);
    let group = watch::Sender::new(None);
    let mut messages = pin!(receive(&mut read, &input, &terminal, &group));
    let start = tokio::select! {
        _ = &mut messages => return,
        start = start => match start {
            Ok(start) => start,
            // The connection's handler is gone, and with it the connection.
            Err(_) => return,
        },
    };
    let Start { running, hold } = start;
    let Running {
        mut child,
        group: members,
        streams,
    } = running;
    group.send_replace(Some(members.clone()));
    if let Streams::Terminal(master) = &streams {
        terminal.send_replace(Some(Arc::clone(master)));
    }
    let gone = {
        let mut program = pin!(program(&write, &handle, &gate, &input, &mut child, streams));
        tokio::select! {
            () = &mut program => None,
            gone = &mut messages => Some(gone),
        }
    };
    if gone == Some(Gone::Flooded) {
        let message = format!("lifeboot: more than {MOST_INPUT} bytes of input wait for this program\n");
        drop(timeout(GRACE, write.extended_data_bytes(1, message.into_bytes())).await);
        drop(write.close().await);
    }
    if gone.is_some() {
        // Both hold the terminal open; the kernel's own hang-up comes when the master is closed.
        terminal.send_replace(None);
        group.send_replace(None);
        members.hang_up();
        drop(members);
        drop(child.wait().await);
    }
    drop(hold);
}

/// Takes what the client sends until it sends no more.
async fn receive(
    read: &mut ChannelReadHalf,
    input: &Input,
    terminal: &watch::Sender<Option<Arc<Master>>>,
    group: &watch::Sender<Option<Group>>,
) -> Gone {
    while let Some(message) = read.wait().await {
        match message {
            ChannelMsg::Data { data } => {
                let waiting = input.add(data);
                if waiting > MOST_INPUT {
                    return Gone::Flooded;
                }
            }
            ChannelMsg::Eof => input.end(),
            ChannelMsg::Close => return Gone::Closed,
            ChannelMsg::WindowChange {
                col_width,
                row_height,
                ..
            } => {
                if let Some(master) = terminal.borrow().as_ref() {
                    crate::output::ignore(master.resize(Size {
                        columns: col_width,
                        rows: row_height,
                    }));
                }
            }
            ChannelMsg::Signal { signal } => {
                if let (Some(group), Some(signal)) = (group.borrow().as_ref(), number_of(&signal)) {
                    group.signal(signal);
                }
            }
            // Requests are answered by the connection's handler, in the order they came.
            _ => {}
        }
    }
    Gone::Closed
}

/// From the program's start to the channel's close.
async fn program(
    write: &ChannelWriteHalf<Msg>,
    handle: &Handle,
    gate: &Arc<Gate>,
    input: &Input,
    child: &mut Child,
    streams: Streams,
) {
    let (ended, end) = watch::channel(false);
    let out = Out { write, gate, end };
    let waiting = async {
        let status = child.wait().await;
        ended.send_replace(true);
        status
    };
    let status = match streams {
        Streams::Terminal(master) => {
            let work = async { tokio::join!(waiting, out.pump(Terminal(&master), None)).0 };
            tokio::select! { status = work => status, never = feed_terminal(input, &master) => never }
        }
        Streams::Pipes(stdin, stdout, stderr) => {
            let both = async {
                tokio::join!(out.pump(Pipe(stdout), None), out.pump(Pipe(stderr), Some(1)));
                // Told at once: a program may close its output and go on working.
                drop(write.eof().await);
            };
            let work = async { tokio::join!(waiting, both).0 };
            tokio::select! { status = work => status, never = feed_pipe(input, stdin) => never }
        }
    };
    finish(write, handle, status).await;
}

/// The connection may be gone by now, which nobody is left to be told.
async fn finish(
    write: &ChannelWriteHalf<Msg>,
    handle: &Handle,
    status: io::Result<std::process::ExitStatus>,
) {
    let id = write.id();
    match status.map(End::from) {
        Ok(End::Status(status)) => handle.exit_status_request(id, status).await.unwrap_or(()),
        Ok(End::Signal { signal, core }) => {
            let none = String::new;
            handle
                .exit_signal_request(id, signal, core, none(), none())
                .await
                .unwrap_or(());
        }
        Err(_) => handle.exit_status_request(id, 255).await.unwrap_or(()),
    }
    drop(write.close().await);
}

/// What output comes from.
trait Source {
    /// Some bytes; 0 at the end.
    async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize>;
}

struct Terminal<'a>(&'a Master);

impl Source for Terminal<'_> {
    async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf).await
    }
}

struct Pipe<R>(R);

impl<R: AsyncRead + Unpin> Source for Pipe<R> {
    async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf).await
    }
}

/// The way out to the client.
struct Out<'a> {
    write: &'a ChannelWriteHalf<Msg>,
    gate: &'a Arc<Gate>,
    end: watch::Receiver<bool>,
}

impl Out<'_> {
    /// Sends all that `source` gives; ends early when the program has ended and nothing comes for a while.
    async fn pump(&self, mut source: impl Source, extended: Option<u32>) {
        let mut end = self.end.clone();
        let mut buffer = vec![0; CHUNK];
        loop {
            let read = {
                let mut reading = pin!(source.read(&mut buffer));
                let early = tokio::select! {
                    biased;
                    read = &mut reading => Some(read),
                    () = ended(&mut end) => None,
                };
                match early {
                    Some(read) => read,
                    None => match timeout(GRACE, reading).await {
                        Ok(read) => read,
                        Err(_) => return,
                    },
                }
            };
            match read {
                Ok(0) | Err(_) => return,
                Ok(count) => {
                    let data = buffer
                        .get(..count)
                        .map(Bytes::copy_from_slice)
                        .unwrap_or_default();
                    if self.send(data, extended).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    async fn send(&self, data: Bytes, extended: Option<u32>) -> Result<(), russh::Error> {
        let sending = async {
            match extended {
                Some(code) => self.write.extended_data_bytes(code, data).await,
                None => self.write.data_bytes(data).await,
            }
        };
        let mut sending = pin!(sending);
        let mut starving = None;
        loop {
            tokio::select! {
                biased;
                sent = &mut sending => return sent,
                () = sleep(Duration::from_millis(50)) => {}
            }
            if starving.is_none() && self.write.writable_packet_size().await == 0 {
                starving = Some(self.gate.starving());
            }
        }
    }
}

/// Returns when the program has ended.
async fn ended(end: &mut watch::Receiver<bool>) {
    drop(end.wait_for(|ended| *ended).await);
}

/// Feeds a program's standard input and closes it when the client has; never returns, its program ends the session.
async fn feed_pipe<T>(input: &Input, mut stdin: ChildStdin) -> T {
    while let Some(data) = input.next().await {
        let written = stdin.write_all(&data).await;
        input.done(data.len());
        if written.is_err() {
            input.refuse();
        }
    }
    drop(stdin);
    std::future::pending().await
}

/// Types what the client sends; its end of input is the key that means it.
async fn feed_terminal<T>(input: &Input, master: &Master) -> T {
    const END_OF_INPUT: &[u8] = &[4];
    while let Some(data) = input.next().await {
        let written = master.write_all(&data).await;
        input.done(data.len());
        if written.is_err() {
            input.refuse();
        }
    }
    crate::output::ignore(master.write_all(END_OF_INPUT).await);
    std::future::pending().await
}

impl Input {
    fn state(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps `data` for the program; how much waits now.
    fn add(&self, data: Bytes) -> usize {
        let mut state = self.state();
        if !state.unwanted {
            self.gate.queued(data.len());
            state.bytes += data.len();
            state.data.push_back(data);
        }
        self.news.notify_one();
        state.bytes
    }

    fn end(&self) {
        self.state().ended = true;
        self.news.notify_one();
    }

    /// The program reads no more: what waits and what comes is thrown away.
    fn refuse(&self) {
        let mut state = self.state();
        state.unwanted = true;
        state.data.clear();
        self.gate.taken(std::mem::take(&mut state.bytes));
    }

    /// The next piece, which counts as waiting until [`Input::done`]; `None` at the end.
    async fn next(&self) -> Option<Bytes> {
        loop {
            {
                let mut state = self.state();
                if let Some(data) = state.data.pop_front() {
                    return Some(data);
                }
                if state.ended {
                    return None;
                }
            }
            self.news.notified().await;
        }
    }

    fn done(&self, bytes: usize) {
        let mut state = self.state();
        state.bytes = state.bytes.saturating_sub(bytes);
        self.gate.taken(bytes);
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        let bytes = self.state().bytes;
        self.gate.taken(bytes);
    }
}
