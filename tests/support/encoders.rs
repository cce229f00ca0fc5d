//! Real encoders that push to the server, and the pictures and sounds that they push.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::wait_for;

/// A process that pushes; killed when dropped.
pub(crate) struct Encoder {
    child: Child,
}

impl Encoder {
    /// Waits for its end; says whether it was content.
    pub(crate) fn finish(mut self, limit: Duration) -> bool {
        let child = &mut self.child;
        wait_for("end of the encoder", limit, || child.try_wait().unwrap().ok_or("it runs".to_owned())).success()
    }

    /// Stops it where it is, with its connection open: what a lost link looks like from the server.
    pub(crate) fn freeze(&self) {
        assert!(Command::new("kill").args(["-STOP", &self.child.id().to_string()]).status().unwrap().success());
    }

    /// Ends it without a goodbye, as a pulled cable would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Has it stop as a person would, with its goodbye; waits for its end. What it says of an interrupt differs.
    pub(crate) fn stop(mut self, limit: Duration) {
        let child = &mut self.child;
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        wait_for("end of the encoder", limit, || child.try_wait().unwrap().ok_or("it runs".to_owned()));
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// 720p30 with B-frames and AAC, made once: a moving picture that flashes white for one frame each second, and a
/// sound that beeps for 50 ms at the same moments. Keyframes each 2 s, closed.
pub(crate) fn flash_and_beep(directory: &Path, seconds: u32) -> PathBuf {
    let path = directory.join("flash.flv");
    let picture = "testsrc2=s=1280x720:r=30,drawbox=t=fill:c=white:enable='lt(mod(t,1),0.02)'";
    let sound = "aevalsrc='if(lt(mod(t,1),0.05),0.8*sin(2*PI*1000*t),0)':s=48000:c=stereo";
    ffmpeg(&["-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound, "-t", &seconds.to_string()])
        .args(["-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-g", "60", "-sc_threshold", "0"])
        .args(["-b:v", "2500k", "-maxrate", "2500k", "-bufsize", "2500k", "-pix_fmt", "yuv420p"])
        .args(["-c:a", "aac", "-b:a", "128k", "-f", "flv"])
        .arg(&path)
        .status()
        .map(|status| assert!(status.success(), "ffmpeg makes a source"))
        .unwrap();
    path
}

/// A small picture with B-frames and AAC of which no frame is like another, made once. Keyframes each 2 s, closed. The sound begins
/// with the picture, its encoder's priming included, for what is before it is cut off, and silence fills what is missing.
pub(crate) fn unrepeated(directory: &Path, seconds: u64) -> PathBuf {
    let path = directory.join("unrepeated.flv");
    let (picture, sound) = ("testsrc2=s=320x180:r=30", "anoisesrc=r=48000:a=0.2:seed=1");
    let priming = (1024.0 / 48_000.0).to_string();
    ffmpeg(&["-f", "lavfi", "-i", picture, "-itsoffset", &priming, "-f", "lavfi", "-i", sound])
        .args(["-t", &seconds.to_string()])
        .args(["-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-g", "60", "-sc_threshold", "0"])
        .args(["-pix_fmt", "yuv420p", "-c:a", "aac", "-b:a", "96k", "-f", "flv"])
        .arg(&path)
        .status()
        .map(|status| assert!(status.success(), "ffmpeg makes a source"))
        .unwrap();
    path
}

/// ffmpeg pushes a file as it is, in real time.
pub(crate) fn push_file(file: &Path, url: &str) -> Encoder {
    spawn(ffmpeg(&["-re", "-i"]).arg(file).args(["-c", "copy", "-f", "flv", url]))
}

/// The same, as fast as it can.
pub(crate) fn push_file_at_once(file: &Path, url: &str) -> Encoder {
    spawn(ffmpeg(&["-i"]).arg(file).args(["-c", "copy", "-f", "flv", url]))
}

/// The same, so many times one after the other.
pub(crate) fn push_file_again_and_again(file: &Path, times: u32, url: &str) -> Encoder {
    let loops = times.saturating_sub(1).to_string();
    spawn(ffmpeg(&["-stream_loop", &loops, "-i"]).arg(file).args(["-c", "copy", "-f", "flv", url]))
}

/// ffmpeg pushes a moving picture of `size` at `rate` until it is stopped, with these options of its encoder.
pub(crate) fn push_live(size: &str, rate: u32, options: &[&str], url: &str) -> Encoder {
    let picture = format!("testsrc2=s={size}:r={rate}");
    spawn(
        ffmpeg(&["-re", "-f", "lavfi", "-i", &picture, "-re", "-f", "lavfi", "-i", "sine=1000:r=48000"])
            .args(["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"])
            .args(options)
            .args(["-c:a", "aac", "-b:a", "96k", "-f", "flv", url]),
    )
}

/// GStreamer pushes a moving picture without B-frames until it is stopped.
pub(crate) fn push_gstreamer(url: &str) -> Encoder {
    let line = format!(
        "videotestsrc is-live=true ! video/x-raw,format=I420,width=640,height=360,framerate=30/1 ! x264enc tune=zerolatency \
         speed-preset=ultrafast key-int-max=60 bitrate=800 ! h264parse ! flvmux name=m streamable=true ! \
         rtmp2sink location={url} audiotestsrc is-live=true ! audio/x-raw,rate=48000,channels=2 ! audioconvert ! avenc_aac ! aacparse ! m."
    );
    spawn(Command::new("gst-launch-1.0").arg("-e").args(line.split_whitespace()))
}

fn ffmpeg(arguments: &[&str]) -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-hide_banner", "-loglevel", "error", "-y"]).args(arguments);
    command
}

fn spawn(command: &mut Command) -> Encoder {
    Encoder { child: command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap() }
}
