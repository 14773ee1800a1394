"""Paramiko at work: PORT KEY HOSTKEY TREE FOLDER OWN."""
import base64
import os
import stat
import sys
import threading

import paramiko

port, key, host_key, tree, folder, own = sys.argv[1:]


def connect():
    kind, blob = open(host_key).read().split()[:2]
    client = paramiko.SSHClient()
    known = paramiko.Ed25519Key(data=base64.b64decode(blob))
    client.get_host_keys().add(f"[127.0.0.1]:{port}", kind, known)
    client.connect("127.0.0.1", int(port), "root", key_filename=key, allow_agent=False, look_for_keys=False)
    return client


def run_commands(client):
    _, out, err = client.exec_command("echo out; echo err >&2; exit 7")
    assert (out.read(), err.read()) == (b"out\n", b"err\n")
    assert out.channel.recv_exit_status() == 7

    sent = os.urandom(1 << 20)
    channel = client.get_transport().open_session()
    channel.exec_command("cat")

    def send():
        channel.sendall(sent)
        channel.shutdown_write()

    sender = threading.Thread(target=send)
    sender.start()
    received = channel.makefile("rb").read()
    sender.join()
    assert received == sent

    shell = client.invoke_shell(width=101, height=33)
    shell.sendall(b"stty size; exit\n")
    assert b"33 101" in shell.makefile("rb").read()


def send_tree(sftp):
    for at, _, files in os.walk(tree):
        there = os.path.join(folder, "tree", os.path.relpath(at, tree))
        sftp.mkdir(os.path.normpath(there))
        for name in files:
            sftp.put(os.path.join(at, name), os.path.join(there, name))  # looks at the size


def fetch_tree(sftp, there, here):
    os.mkdir(here)
    for entry in sftp.listdir_attr(there):
        far, near = f"{there}/{entry.filename}", f"{here}/{entry.filename}"
        if stat.S_ISDIR(entry.st_mode):
            fetch_tree(sftp, far, near)
        else:
            sftp.get(far, near)  # prefetches all of it


def use_files(sftp):
    sftp.chdir(folder)
    with sftp.open("draft", "w") as f:
        f.write("first\n")
    with sftp.open("draft", "r+") as f:
        f.write("secon")
        f.seek(5)
        f.write("d\n")
    with sftp.open("draft") as f:
        f.prefetch()
        assert f.read() == b"second\n"
        assert f.stat().st_size == 7
    with sftp.open("renamed", "x"):
        pass
    try:
        sftp.rename("draft", "renamed")
        raise SystemExit("rename has overwritten a file")
    except IOError:
        pass
    sftp.posix_rename("draft", "renamed")
    sftp.chmod("renamed", 0o604)
    sftp.symlink("renamed", "link")
    assert sftp.readlink("link") == "renamed"
    assert sftp.normalize("link") == f"{folder}/renamed"
    with sftp.open("tree/large") as f:
        parts = f.readv([(1 << 20, 70000), (0, 10), (4 << 20, 40000)])
        with open(f"{tree}/large", "rb") as whole:
            content = whole.read()
        for start, part in zip((1 << 20, 0, 4 << 20), parts):
            assert part == content[start:start + len(part)] and part


with connect() as client:
    run_commands(client)
    with client.open_sftp() as sftp:
        send_tree(sftp)
        fetch_tree(sftp, f"{folder}/tree", f"{own}/back")
        use_files(sftp)
