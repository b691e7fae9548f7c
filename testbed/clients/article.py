#!/usr/bin/env python3
# The client of the original: two processes that ask for a line of text, and run hikload with what stands there, until it
# is "the end". Only the address is another one, and there is a token: article.py ADDRESS TOKEN_FILE [options of hikload]
import subprocess
import sys
from multiprocessing import Process
from urllib.request import Request, urlopen

URL, TOKEN = sys.argv[1] + "/api/v1/tasks/next", open(sys.argv[2]).read().strip()


def work(number):
    headers = {"Authorization": f"Bearer {TOKEN}", "Accept": "text/plain"}
    while True:
        task = urlopen(Request(f"{URL}?worker={number}", headers=headers), timeout=90).read().decode()
        if task == "the end":
            return
        user, password, address, channel = task.split()
        login = ["--server", address, "--username", user, "--password", password, "--cameras", channel]
        subprocess.run(["hikload", *login, "--downloads", f"{address}-{channel}", *sys.argv[3:]])


if __name__ == "__main__":
    workers = [Process(target=work, args=(number,)) for number in (1, 2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
