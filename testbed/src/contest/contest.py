"""What most people write first: OpenCV reads a video file, and makes a JPEG of each picture. One thread throughout."""

import json
import sys

import cv2

path, quality = sys.argv[1], int(sys.argv[2])
cv2.setNumThreads(1)
video = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
if not video.isOpened():
    sys.exit(f"cannot open {path}")
frames = total = 0
while True:
    read, picture = video.read()
    if not read:
        break
    done, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        sys.exit(f"cannot encode picture {frames}")
    frames += 1
    total += len(jpeg)
print(json.dumps({"frames": frames, "bytes": total, "version": cv2.__version__}))
