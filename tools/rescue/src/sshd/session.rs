//! One session channel: bytes in, bytes out, and the end of it.
//!
//! Four things go on at once: messages of the client are taken as they come (never held back, see [`super::gate`]),
//! input is fed to the program, its output is sent as the client's window allows, and its end is awaited. The session
//! is over when the program has ended *and* its output is through; a background child that still holds the pipe gets
//! [`GRACE`] after the last byte, no more.

use super::child::{End, Group, Running, Streams, number_of};
use super::gate::Gate;
use super::hold::Hold;
use super::input::{Input, MOST_INPUT, Room};
use super::pipes::{self, Inlet};
use super::pty::{Master, Size};
use super::pump::{GRACE, Out, Source};
use bytes::Bytes;
use russh::server::{Handle, Msg};
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::process::ExitStatus;
use std::sync::Arc;
use tokio::process::Child;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

/// What the connection hands over when the client has said what to run.
#[derive(Debug)]
pub struct Start {
    /// The program.
    pub running: Running,
    /// Keeps the boot from going on, as long as the session lasts.
    pub hold: Hold,
}

/// What a session waits for, and what it counts as.
#[derive(Debug)]
pub struct Place {
    /// What to run, when the client has said so.
    pub start: oneshot::Receiver<Start>,
    /// One of the sessions its connection may have, until this is dropped.
    pub counted: Arc<()>,
}

/// Why the messages of the client came to an end.
#[derive(Debug)]
enum Gone {
    /// The channel or the connection is closed.
    Closed,
    /// More input than can be kept.
    Flooded,
}

/// Serves a channel from its opening to its end.
pub async fn serve(channel: Channel<Msg>, handle: Handle, gate: Arc<Gate>, place: Place) {
    // Kept to the end: a session counts among those of its connection as long as anything of it is left.
    let Place { start, counted } = place;
    let (mut read, write) = channel.split();
    let input = Input::new(&gate);
    let terminal = watch::Sender::new(None);
    let group = watch::Sender::new(None);
    let mut messages = pin!(receive(&mut read, &input, &terminal, &group));
    let start = tokio::select! {
        _ = &mut messages => return,
        start = start => match start {
            Ok(start) => start,
            // The connection's handler is gone, and with it the connection; or nothing was started.
            Err(_) => return,
        },
    };
    let Start { running, mut hold } = start;
    let Running {
        mut child,
        group: members,
        streams,
    } = running;
    group.send_replace(Some(members.clone()));
    if let Streams::Terminal(master) = &streams {
        terminal.send_replace(Some(Arc::clone(master)));
    }
    let tty = match &streams {
        Streams::Terminal(master) => Some(master.path()),
        Streams::Pipes(..) => None,
    };
    let ended = {
        let mut program = pin!(program(&write, &input, &mut child, streams));
        tokio::select! {
            status = &mut program => Ok(status),
            gone = &mut messages => Err(gone),
            never = tell_cut(&write, &mut hold, tty) => match never {},
        }
    };
    // What has ended by itself is not hung up any more: a child it left behind is to go on.
    if let Ok(status) = &ended {
        let mut telling = pin!(tell_end(&write, &handle, status));
        tokio::select! {
            () = &mut telling => {}
            _ = &mut messages => drop(timeout(GRACE, telling).await),
        }
    }
    if let Err(Gone::Flooded) = ended {
        let message = format!("lifeboot: more than {MOST_INPUT} bytes of input wait\n");
        drop(timeout(GRACE, write.extended_data_bytes(1, message.into_bytes())).await);
        drop(write.close().await);
    }
    if ended.is_err() {
        // Both hold the terminal open; the kernel's own hang-up comes when the master is closed.
        terminal.send_replace(None);
        group.send_replace(None);
        members.hang_up();
        drop(members);
        drop(child.wait().await);
    }
    drop((hold, counted));
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
            ChannelMsg::Data { data } if input.add(&data) == Room::Gone => return Gone::Flooded,
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

/// Says on a terminal that somebody else ends the session, whatever runs there.
async fn tell_cut(write: &ChannelWriteHalf<Msg>, hold: &mut Hold, tty: Option<String>) -> Infallible {
    let Some(tty) = tty else {
        return std::future::pending().await;
    };
    loop {
        let text = format!("\r\n{}\r\n", hold.cut(&tty).await);
        // The client may be gone, which its messages tell.
        drop(write.data_bytes(text.into_bytes()).await);
    }
}

/// From the program's start to the end of its output.
async fn program(
    write: &ChannelWriteHalf<Msg>,
    input: &Input,
    child: &mut Child,
    streams: Streams,
) -> io::Result<ExitStatus> {
    let (ended, end) = watch::channel(false);
    let out = Out { write, end };
    let waiting = async {
        let status = child.wait().await;
        ended.send_replace(true);
        status
    };
    match streams {
        Streams::Terminal(master) => {
            // A program that cannot be read from any more is waited for all the same.
            let work = async { tokio::join!(waiting, out.pump(Terminal(&master), None)).0 };
            tokio::select! { status = work => status, never = endless(feed_terminal(input, &master)) => never }
        }
        Streams::Pipes(stdin, stdout, stderr) => {
            let both = async {
                // A pipe that cannot be read from any more has ended.
                tokio::join!(out.pump(stdout, None), out.pump(stderr, Some(1)))
            };
            let work = async { tokio::join!(waiting, both).0 };
            tokio::select! { status = work => status, never = endless(feed_pipe(input, stdin)) => never }
        }
    }
}

/// Tells the status, then the end of output, then closes. The order matters: many clients (OpenSSH's ControlMaster
/// among them) close a channel that has ended both ways, and after their close no status can be sent any more. So a
/// program that closes its output and goes on working is not told of before it has ended.
///
/// The connection may be gone by now, which nobody is left to be told.
async fn tell_end(write: &ChannelWriteHalf<Msg>, handle: &Handle, status: &io::Result<ExitStatus>) {
    let id = write.id();
    match status.as_ref().map(|status| End::from(*status)) {
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
    drop(write.eof().await);
    drop(write.close().await);
}

struct Terminal<'a>(&'a Master);

impl Source for Terminal<'_> {
    async fn ready(&mut self) -> io::Result<()> {
        self.0.ready().await
    }

    async fn read(&mut self) -> io::Result<Bytes> {
        self.0.read().await
    }
}

/// Never returns: the end of a program ends its session, not the end of its input.
async fn endless<T>(feeding: impl Future<Output = ()>) -> T {
    feeding.await;
    std::future::pending().await
}

/// Writes what the client sends, and closes the pipe at its end.
async fn feed_pipe(input: &Input, inlet: Inlet) {
    while let Some(data) = input.next().await {
        let mut count = data.len();
        let mut batch = vec![data];
        while let Some(data) = input.more(pipes::ROOM.saturating_sub(count)) {
            count += data.len();
            batch.push(data);
        }
        let written = inlet.write_all(batch).await;
        input.done(count, written.is_ok());
    }
}

/// Types what the client sends; its end of input is the key that means it.
async fn feed_terminal(input: &Input, master: &Master) {
    const END_OF_INPUT: &[u8] = &[4];
    while let Some(data) = input.next().await {
        let written = master.write_all(&data).await;
        input.done(data.len(), written.is_ok());
    }
    crate::output::ignore(master.write_all(END_OF_INPUT).await);
}
