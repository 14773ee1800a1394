"""AsyncSSH at work: PORT KEY HOSTKEY TREE FOLDER OWN."""
import asyncio
import os
import sys

import asyncssh

port, key, host_key, tree, folder, own = sys.argv[1:]
with open(host_key) as f:
    known = f"[127.0.0.1]:{port} {f.read()}".encode()


def connect():
    return asyncssh.connect("127.0.0.1", int(port), username="root", client_keys=[key],
                            known_hosts=known, agent_path=None, config=None)


async def run_commands(connection, label):
    """Ten at once, which is as many sessions as a connection may have."""
    results = await asyncio.gather(*(
        connection.run(f"echo {label} {i}; exit {i}") for i in range(10)))
    for i, result in enumerate(results):
        assert (result.stdout, result.exit_status) == (f"{label} {i}\n", i), result

    sent = os.urandom(1 << 20)
    result = await connection.run("cat", input=sent, encoding=None)
    assert result.stdout == sent
    result = await connection.run("kill -TERM $$")
    assert result.exit_signal[0] == "TERM", result.exit_signal
    process = await connection.create_process("echo ready; exec sleep 60")
    assert await process.stdout.readline() == "ready\n"
    process.send_signal("INT")
    await process.wait()
    assert process.exit_signal[0] == "INT", process.exit_signal


async def use_files(sftp):
    await sftp.put(tree, f"{folder}/tree", recurse=True, preserve=True)
    await sftp.get(f"{folder}/tree", f"{own}/back", recurse=True, preserve=True)

    os.mkdir(f"{own}/many")
    for i in range(50):
        with open(f"{own}/many/file-{i}.txt", "w") as f:
            f.write(str(i))
    await sftp.mkdir(f"{folder}/many")
    await sftp.mput(f"{own}/many/*.txt", f"{folder}/many")
    assert len(await sftp.glob(f"{folder}/many/file-?.txt")) == 10
    os.mkdir(f"{own}/some")
    await sftp.mget(f"{folder}/many/file-1*.txt", f"{own}/some")
    assert len(os.listdir(f"{own}/some")) == 11
    with open(f"{own}/some/file-17.txt") as f:
        assert f.read() == "17"

    for name, content in ("renamed", "first\n"), ("draft", "second\n"):
        async with sftp.open(f"{folder}/{name}", "w") as f:
            await f.write(content)
    await sftp.posix_rename(f"{folder}/draft", f"{folder}/renamed")
    await sftp.chmod(f"{folder}/renamed", 0o604)
    await sftp.link(f"{folder}/renamed", f"{folder}/again")
    assert (await sftp.statvfs(folder)).bsize > 0
    assert await sftp.realpath(f"{folder}/many/..") == folder


async def main():
    async with connect() as one, connect() as two:
        await asyncio.gather(run_commands(one, "one"), run_commands(two, "two"))
        async with one.start_sftp_client() as sftp:
            await use_files(sftp)


asyncio.run(main())
